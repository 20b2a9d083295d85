"""The notice that a machine is about to be taken away: spot instances and Slurm send SIGTERM before they kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from prism_ray.errors import PrismRayError


class RunInterruptedError(PrismRayError, RuntimeError):
    """A run that was told to end and has saved where it was; nothing is wrong with it."""


@contextmanager
def termination_noticed() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM does not end the process; the function that comes with it says whether one has arrived.

    Only a process's main thread may say what a signal does. In any other, as in Ray's workers, nothing is changed,
    and the function always says no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    arrived = threading.Event()
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        arrived.set()
        if callable(before):
            # Whoever runs this run wants to know as well; but Ray's handler would end the process before it has saved.
            with suppress(SystemExit):
                before(number, frame)

    signal.signal(signal.SIGTERM, note)
    try:
        yield arrived.is_set
    finally:
        # A handler that was not installed from Python reads as None and cannot be put back by it.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
