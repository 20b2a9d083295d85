"""How compiled kernels run: over plain threads, on flat arrays that are shared with tensors.

Kernels run on a few plain threads that take turns with PyTorch's own: numba's parallel back ends start a second
thread pool that oversubscribes the cores and does not survive a fork. The number of threads is PyTorch's, and
no result depends on it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prism_ray.model.scan.simd import WIDTH

Flat = npt.NDArray[np.float32]

_LEAST_VALUES_PER_THREAD = 2**14
"""Under so many values a thread, handing work over takes longer than doing it."""


def share(kernel: Callable[..., None], n_items: int, n_values: int, *arguments: Any) -> None:
    """Run a kernel over all items, cut into one range a thread; this thread takes the last."""
    n_threads = min(torch.get_num_threads(), n_items, max(1, n_values // _LEAST_VALUES_PER_THREAD))
    bounds = [n_items * k // n_threads for k in range(n_threads + 1)]
    ranges = list(itertools.pairwise(bounds))
    futures = []
    if n_threads > 1:
        pool = _pool(os.getpid(), n_threads)
        futures = [pool.submit(kernel, part, *arguments) for part in ranges[:-1]]
    kernel(ranges[-1], *arguments)
    for future in futures:
        future.result()


@functools.lru_cache(maxsize=1)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads of this process: after a fork the parent's are gone, so the process is part of the key."""
    return ThreadPoolExecutor(max_workers=n_threads - 1, thread_name_prefix="prism-scan")


def flat(tensor: Tensor) -> Flat:
    """A contiguous tensor's values, shared with it."""
    values: Flat = tensor.detach().view(-1).numpy()
    return values


def padded(tensor: Tensor) -> Flat:
    """Values with the last dimension filled up with zeros to whole vectors, flat."""
    values: Flat = tensor.detach().numpy()
    filled = np.zeros((*values.shape[:-1], -(-values.shape[-1] // WIDTH) * WIDTH), dtype=np.float32)
    filled[..., : values.shape[-1]] = values
    return filled.ravel()


def over_parts(parts: Flat, n_channels: int) -> Tensor:
    """Sum over the first dimension, without the padding of the last."""
    total = np.add.reduce(parts, axis=0)
    return torch.from_numpy(np.ascontiguousarray(total[..., :n_channels]))
