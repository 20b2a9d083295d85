"""How many trials share a GPU: by measured memory, with a margin, never by hope.

Ray's fractions of a GPU are bookkeeping: nothing limits what a process takes. A fraction is therefore chosen so that
all that share the GPU fit by what the largest of them was measured to take. Loads neither Ray nor PyTorch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.step_costs import StepCost
from prism_ray.errors import Fault, InputError

GpusAsked = float | Literal["auto"]

MARGIN = 0.2
"""Part of the measured memory that is added to it: other genes, cuDNN's workspaces and fragments move the peak."""
CONTEXT_BYTES = 600 << 20
"""What CUDA and its libraries take of a GPU in each process, beside PyTorch's tensors."""
MOST_TRIALS_A_GPU = 8
"""More processes on a GPU gain nothing: its time is shared out by then."""


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
        peak, needed, there = (value / 2**30 for value in (peak_bytes, needed_bytes(peak_bytes), device_bytes))
        fault = Fault(
            "--gpus-per-worker auto",
            f"the largest trial took {peak:.1f} GiB, with its margin {needed:.1f} GiB, and the GPU has {there:.1f} GiB",
            "give --gpus-per-worker 1 to use all of it without a margin, or --micro-batch, or a GPU with more memory",
        )
        raise InputError(str(fault), [fault])
    return 1.0 / k


def packed(each: TrialResources, largest: StepCost) -> TrialResources:
    """Resources with the part of a GPU that the largest trial was measured to need.

    Raises:
        InputError: it was not measured on a GPU, or does not fit.
    """
    if largest.device == "cpu":
        fault = Fault("--gpus-per-worker auto", "the largest trial was measured on a CPU", "use --gpus-per-worker 0")
        raise InputError(str(fault), [fault])
    return replace(each, gpus_per_worker=gpu_fraction(largest.peak_bytes, largest.device_bytes))


def trials_a_gpu(each: TrialResources) -> int:
    """Trials that share a GPU; 0 where one takes several GPUs, or more than one worker."""
    if each.n_workers > 1 or not 0 < each.gpus_per_worker <= 1:
        return 0
    # Fractions are not exact: three thirds are one.
    return int(1 / each.gpus_per_worker + 1e-9)
