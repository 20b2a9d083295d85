"""Large float32 tensors whose memory is used again.

A tensor of tens of megabytes is fresh memory each time the C library is asked for one, and the first touch of
fresh memory costs several times what writing it does. What is borrowed here goes back to a shelf when the last
tensor that sees it is gone, and the next borrower of about that size takes it. Where the system has large pages it is
asked for them: kernels step from row to row, and with pages of 4 KiB look most of them up anew.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import mmap
import os
import threading
import weakref

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_LEAST_VALUES = 2**18
"""Below 1 MiB the C library does not give memory back in between."""

_LARGEST_WASTE = 1.25
"""A buffer serves a request that it exceeds by no more than this factor."""

_LARGEST_HOLD = 1.25
"""Used and held memory together stay under this multiple of the most that was ever in use."""

_LARGE_PAGE = 2**21
"""Bytes of a large page on x86 and on most other machines."""

_Buffer = npt.NDArray[np.float32]


class _Handle(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
    """An array that can be watched by a weak reference."""


class Shelf:
    """Buffers that nobody uses, by size; safe between threads."""

    def __init__(self) -> None:
        self._free: list[_Buffer] = []
        self._used = self._most_used = 0  # values
        # Reentrant: a buffer may come back by garbage collection while this thread holds the lock.
        self._lock = threading.RLock()

    def borrow(self, *shape: int) -> Tensor:
        """An uninitialised float32 tensor on the CPU, contiguous."""
        size = math.prod(shape)
        if size < _LEAST_VALUES:
            return torch.empty(shape)
        buffer = self._take(size)
        # torch keeps the array it was made from, so the handle lives as long as any tensor of this storage.
        handle = buffer[:size].view(_Handle)
        weakref.finalize(handle, self._give_back, buffer).atexit = False
        return torch.from_numpy(handle).view(shape)

    def clear(self) -> None:
        """Give unused memory back to the system."""
        with self._lock:
            self._free.clear()

    def n_bytes(self) -> int:
        """Memory that is held and not used."""
        with self._lock:
            return sum(buffer.nbytes for buffer in self._free)

    def _take(self, size: int) -> _Buffer:
        with self._lock:
            at = bisect.bisect_left(self._free, size, key=len)
            if at < len(self._free) and len(self._free[at]) <= _LARGEST_WASTE * size:
                buffer = self._free.pop(at)
                self._count(len(buffer))
                return buffer
            self._count(size)
            held = sum(len(buffer) for buffer in self._free)
            # What is dropped is dropped before more is asked for, so that the peak does not see both.
            while self._free and self._used + held > _LARGEST_HOLD * self._most_used:
                held -= len(self._free.pop())
        return _fresh(size)

    def _count(self, size: int) -> None:
        self._used += size
        self._most_used = max(self._most_used, self._used)

    def _give_back(self, buffer: _Buffer) -> None:
        with self._lock:
            self._used -= len(buffer)
            bisect.insort(self._free, buffer, key=len)


def _fresh(size: int) -> _Buffer:
    """So many values of new memory, in large pages where the system has them."""
    n_bytes = 4 * size
    if n_bytes < _LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(size, dtype=np.float32)
    memory = mmap.mmap(-1, n_bytes + _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A kernel without large pages refuses, and small ones do too.
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    # The array keeps the mapping, which ends with it. A large page begins at a multiple of its size.
    values = np.frombuffer(memory, dtype=np.uint8)
    begin = -values.ctypes.data % _LARGE_PAGE
    return values[begin : begin + n_bytes].view(np.float32)


_shelves: dict[int, Shelf] = {}


def borrow(*shape: int) -> Tensor:
    """An uninitialised float32 tensor from this process's shelf."""
    process = os.getpid()
    shelf = _shelves.get(process)
    if shelf is None:
        shelf = _shelves.setdefault(process, Shelf())
    return shelf.borrow(*shape)
