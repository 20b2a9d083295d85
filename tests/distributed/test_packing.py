"""The part of a GPU that a trial is given, by recorded memory; and what measured steps say of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.config import RunConfig, patched
from prism_ray.distributed.packing import CONTEXT_BYTES, gpu_fraction, needed_bytes, pack, packed, trials_a_gpu
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.step_costs import PROBES_NAME, StepCost, StepCosts, StepKind, keep_probes, read_probes
from prism_ray.errors import InputError
from prism_ray.study.extremes import extreme_configs
from prism_ray.study.load import load_study
from prism_ray.workload import step_multiply_adds
from tests.study.texts import ABLATION

GIB = 2**30
ON_CPU, ON_GPU = TrialResources(), TrialResources(gpus_per_worker=1.0)


def cost(
    config: RunConfig, step_s: float, device: str = "cpu", peak_bytes: int = GIB, measured: str = "2026"
) -> StepCost:
    each = ON_CPU if device == "cpu" else ON_GPU
    cpus = 1 if device == "cpu" else 0
    kind = StepKind.of(config, each)
    return StepCost(
        kind, device, cpus, step_multiply_adds(config), step_s, step_s / 100, peak_bytes, 80 * GIB, measured
    )


def windows(*lengths: int) -> list[RunConfig]:
    return [patched(RunConfig(), {"data.window_bp": length}, "") for length in lengths]


@pytest.mark.parametrize(("peak", "there", "k"), [(30, 80, 2), (20, 80, 3), (8, 80, 7), (1, 80, 8), (60, 80, 1)])
def test_as_many_as_fit_with_their_margin(peak: int, there: int, k: int) -> None:
    assert gpu_fraction(peak * GIB, there * GIB) == 1 / k
    assert k * needed_bytes(peak * GIB) <= there * GIB
    assert needed_bytes(0) == CONTEXT_BYTES


def test_a_trial_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"took 70 GiB, with its margin 84.6 GiB, and the GPU has 80 GiB"):
        gpu_fraction(70 * GIB, 80 * GIB)


def test_the_tightest_of_the_gpus_that_were_measured_decides(tmp_path: Path) -> None:
    (tmp_path / "asked.yaml").write_text(ABLATION)
    study = load_study(tmp_path / "asked.yaml")
    smallest, largest = extreme_configs(study)
    keep_probes(tmp_path, [cost(largest, 1.0), cost(smallest, 1.0, "H200", 30 * GIB)])
    with pytest.raises(InputError, match=r"^--gpus-per-worker auto: the largest trial was measured on a CPU alone"):
        pack(study, tmp_path, ON_CPU)
    keep_probes(tmp_path, [cost(largest, 1.0, "H200", 8 * GIB), cost(largest, 1.0, "A100", 20 * GIB)])
    packing = pack(study, tmp_path, ON_CPU)
    assert trials_a_gpu(packing.each) == 3
    assert str(packing).startswith("3 trials a GPU: the largest took 20 GiB of the 80 GiB of A100")
    with pytest.raises(InputError, match=r"no step of the largest trial is in .*probes\.json"):
        pack(study, tmp_path, TrialResources(micro_batch=2))


def test_a_packed_trial_shares_its_gpu_with_as_many() -> None:
    each = packed(ON_GPU, [cost(RunConfig(), 1.0, "NVIDIA H100", 20 * GIB)]).each
    assert trials_a_gpu(each) == 3
    assert trials_a_gpu(replace(each, n_workers=2)) == trials_a_gpu(ON_CPU) == 0
    assert trials_a_gpu(TrialResources(gpus_per_worker=2.0)) == 0


def test_a_step_between_two_measured_ones_lies_between_and_none_beyond() -> None:
    small, middle, large, larger = windows(500, 1000, 1500, 3000)
    costs = StepCosts([cost(small, 1.0), cost(large, 3.0)], ON_CPU)
    exact, between = costs.estimate(large), costs.estimate(middle)
    assert exact is not None
    assert (exact.step_s, exact.source, exact.peak_bytes) == (3.0, "probe", GIB)
    assert between is not None
    assert (between.step_s, between.source, between.peak_bytes) == (pytest.approx(2.0), "between", None)
    assert costs.estimate(larger) is None
    # What costs the same is the same kind; what does not is not.
    assert costs.estimate(patched(small, {"seed": 7, "optimizer.learning_rate": 1.0e-3}, "")) is not None
    assert StepKind.of(small, ON_CPU) != StepKind.of(patched(small, {"training.batch_size": 4}, ""), ON_CPU)


def test_seconds_of_another_device_are_not_mixed_in() -> None:
    (config,) = windows(500)
    probes = [cost(config, 1.0), cost(config, 0.1, "old GPU", measured="2025"), cost(config, 0.05, "new GPU")]
    on_cpu, on_gpu = (StepCosts(probes, each).estimate(config) for each in (ON_CPU, ON_GPU))
    assert on_cpu is not None
    assert on_gpu is not None
    assert (on_cpu.step_s, on_gpu.step_s, on_gpu.device) == (1.0, 0.05, "new GPU")
    assert StepCosts(probes, TrialResources(cpus_per_worker=2)).estimate(config) is None


def test_probes_are_kept_and_replaced(tmp_path: Path) -> None:
    first, second = windows(500, 1000)
    assert read_probes(tmp_path) == []
    keep_probes(tmp_path / "results", [cost(first, 1.0)])
    keep_probes(tmp_path / "results", [cost(second, 2.0), cost(first, 1.5)])
    assert [probe.step_s for probe in read_probes(tmp_path / "results")] == [1.5, 2.0]
    (tmp_path / "results" / PROBES_NAME).write_text('{"schema": 1, "probes": [{"kind": 3}]}')
    with pytest.raises(InputError, match=r"probes\.json: cannot be read"):
        read_probes(tmp_path / "results")
