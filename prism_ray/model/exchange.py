"""What the workers of a run send each other, and how it is said that one of them is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed
from torch import Tensor

from prism_ray.errors import WorkerLostError


def sum_in_place(values: Tensor) -> None:
    """Put the sum over all workers in place of each one's own values.

    Raises:
        WorkerLostError: another worker is gone.
    """
    with exchanging():
        torch.distributed.all_reduce(values)


@contextmanager
def exchanging() -> Iterator[None]:
    """Inside, workers exchange tensors of equal shapes; one that breaks off has lost another worker.

    gloo raises a bare `RuntimeError` then, NCCL a subclass: neither can be told from a bug by its type, so what
    takes an error here for a loss must bound how often it tries again.

    Raises:
        WorkerLostError: the exchange broke off.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as problem:
        raise WorkerLostError(f"an exchange with the other workers broke off: {problem}") from problem
