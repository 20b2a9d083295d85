"""How many trials share a GPU: by measured memory, with a margin, never by hope.

Ray's fractions of a GPU are bookkeeping: nothing limits what a process takes. A fraction is therefore chosen so that
all that share the GPU fit by what the largest of them was measured to take. Loads neither Ray nor PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.step_costs import CPU, PROBES_NAME, StepCost, StepKind, read_probes
from prism_ray.errors import Fault, InputError
from prism_ray.sizes import size_text
from prism_ray.study.extremes import extreme_configs
from prism_ray.study.spec import Study

AUTO = "auto"
"""Asks for the part of a GPU that the largest trial was measured to need, instead of a number."""
ASKED = f"--gpus-per-worker {AUTO}"

MARGIN = 0.2
"""Part of the measured memory that is added to it: other genes, cuDNN's workspaces and fragments move the peak."""
CONTEXT_BYTES = 600 << 20
"""What CUDA and its libraries take of a GPU in each process, beside PyTorch's tensors."""
MOST_TRIALS_A_GPU = 8
"""More processes on a GPU gain nothing: its time is shared out by then."""


@dataclass(frozen=True)
class Packing:
    """What each trial takes, with the part of a GPU chosen by measured memory.

    Attributes:
        each: what a trial takes.
        reason: why that part, in words.
    """

    each: TrialResources
    reason: str

    def __str__(self) -> str:
        n_trials = trials_a_gpu(self.each)
        return f"{n_trials} {'trial' if n_trials == 1 else 'trials'} a GPU: {self.reason}"


def needed_bytes(peak_bytes: int) -> int:
    """Memory of a GPU that a trial is given, for the measured peak of its tensors."""
    return int(peak_bytes * (1 + MARGIN)) + CONTEXT_BYTES


def gpu_fraction(peak_bytes: int, device_bytes: int) -> float:
    """Part 1/k of a GPU for a trial: the largest k, at most `MOST_TRIALS_A_GPU`, at which k of them fit.

    Args:
        peak_bytes: most memory that the tensors of the largest trial took.
        device_bytes: memory of the GPU.

    Raises:
        InputError: not even one fits with its margin.
    """
    k = min(MOST_TRIALS_A_GPU, device_bytes // needed_bytes(peak_bytes))
    if k < 1:
        peak, needed, there = map(size_text, (peak_bytes, needed_bytes(peak_bytes), device_bytes))
        raise _refused(
            f"the largest trial took {peak}, with its margin {needed}, and the GPU has {there}",
            "give --gpus-per-worker 1 to use all of it without a margin, or --micro-batch, or a GPU with more memory",
        )
    return 1.0 / k


def whole_gpus(each: TrialResources) -> TrialResources:
    """What a trial takes while it is measured what part of a GPU it needs: all of one.

    Raises:
        InputError: its workers cannot share a GPU.
    """
    if each.n_workers > 1:
        raise _refused(
            f"{each.n_workers} workers a trial, and NCCL wants a GPU of its own for each",
            "give a number, or use --workers 1",
        )
    return replace(each, gpus_per_worker=1.0)


def pack(study: Study, storage: Path, each: TrialResources) -> Packing:
    """Resources with the part of a GPU that the study's largest trial was measured to need.

    Of several kinds of GPU that were measured, the one on which the fewest trials fit decides, since a trial may come
    to any of them.

    Args:
        storage: workspace with what was measured.
        each: what a trial takes besides.

    Raises:
        InputError: its workers cannot share a GPU, the largest trial was not measured on one, or does not fit.
    """
    whole = whole_gpus(each)
    kind = StepKind.of(extreme_configs(study)[1].trained(), whole)
    measured = [probe for probe in read_probes(storage) if probe.kind == kind]
    if not any(probe.device != CPU for probe in measured):
        where = f"no step of the largest trial is in {storage / PROBES_NAME}"
        if measured:
            where = f"the largest trial was measured on a CPU alone ({storage / PROBES_NAME})"
        raise _refused(
            where,
            f"`prism-ray check {study.path} {ASKED}` with the same flags measures it on a GPU; without a GPU use "
            "--gpus-per-worker 0",
        )
    return packed(whole, [probe for probe in measured if probe.device != CPU])


def packed(each: TrialResources, measured: Iterable[StepCost]) -> Packing:
    """Resources with the part of a GPU that the largest trial needs on each of the GPUs it was measured on.

    Raises:
        InputError: it does not fit on one of them.
    """
    fractions = {probe: gpu_fraction(probe.peak_bytes, probe.device_bytes) for probe in measured}
    tightest = max(fractions, key=lambda probe: fractions[probe])
    peak, needed = tightest.peak_bytes, needed_bytes(tightest.peak_bytes)
    return Packing(
        replace(each, gpus_per_worker=fractions[tightest]),
        f"the largest took {size_text(peak)} of the {size_text(tightest.device_bytes)} of {tightest.device}, and gets "
        f"{size_text(needed)} with its margin",
    )


def trials_a_gpu(each: TrialResources) -> int:
    """Trials that share a GPU; 0 where one takes several GPUs, or more than one worker."""
    if each.n_workers > 1 or not 0 < each.gpus_per_worker <= 1:
        return 0
    # Fractions are not exact: three thirds are one.
    return int(1 / each.gpus_per_worker + 1e-9)


def _refused(problem: str, fix: str) -> InputError:
    fault = Fault(ASKED, problem, fix)
    return InputError(str(fault), [fault])
