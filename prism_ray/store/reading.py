"""How many bytes of stores this process has read: what a launch compares with its plan."""

from __future__ import annotations

import threading


class _Tally:
    """A sum that threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_bytes = 0

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self._n_bytes += n_bytes

    def total(self) -> int:
        with self._lock:
            return self._n_bytes


_TALLY = _Tally()


def count_bytes(n_bytes: int) -> None:
    """Add bytes that were read."""
    _TALLY.add(n_bytes)


def bytes_read() -> int:
    """Compressed bytes of columns that this process has read of all stores so far, each time that it read them."""
    return _TALLY.total()
