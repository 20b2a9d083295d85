"""`prism-ray check` on a running cluster: real steps of a study's largest and smallest trial, kept for `plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prism_ray.cli import main
from prism_ray.distributed.step_costs import read_probes
from tests.distributed.conftest import tiny_study
from tests.tracking_support import fresh_store


@pytest.mark.ray
@pytest.mark.slow
def test_steps_are_measured_in_processes_of_their_own(
    simulated_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, storage = tiny_study(tmp_path), tmp_path / "results"
    where = ["--store", str(simulated_store), "--storage", str(storage)]
    assert main(["check", str(study.path), *where, "--tracking-uri", fresh_store(tmp_path), "--deep"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok") for line in said), said
    for name in (
        *(
            "study file",
            "store",
            "inputs of every trial",
            "folds",
            "batches",
            "store, every byte",
            "storage",
            "tracker",
        ),
        *(
            "resources and loading",
            "folders and room on every node",
            "step of the largest trial",
            "step of the smallest",
        ),
    ):
        assert any(line.startswith(f"ok     {name}") for line in said), (name, said)
    probes = read_probes(storage)
    assert [probe.device for probe in probes] == ["cpu", "cpu"]
    assert all(probe.step_s > 0 and probe.evaluate_s > 0 for probe in probes)
    # A process that has loaded PyTorch and a store, and no more than this machine has.
    assert all(100 << 20 < probe.peak_bytes < probe.device_bytes for probe in probes)
    assert probes[0].multiply_adds > probes[1].multiply_adds
    assert main(["plan", str(study.path), *where, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {row["source"] for row in plan["rows"]} == {"probe"}
    assert plan["hours"] > 0
    assert plan["peak_bytes"] == max(probe.peak_bytes for probe in probes)
    assert not (storage / "trials").exists(), "nothing was trained"


@pytest.mark.ray
def test_what_a_cluster_cannot_hold_is_refused_by_it(
    simulated_store: Path, tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tiny_study(tmp_path)
    command = ["check", str(study.path), "--store", str(simulated_store), "--storage", str(tmp_path / "results")]
    assert main([*command, "--cpus-per-worker", "64", "--tracking-uri", fresh_store(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "FAILED resources and loading: cluster: a run needs 64 CPUs" in said.out
    assert "step of the largest trial" not in said.out
    assert said.err.endswith("1 of the checks failed\n")
    assert read_probes(tmp_path / "results") == []
