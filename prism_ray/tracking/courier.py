"""A thread that delivers what the trials of this process log, so that training never waits for a tracker."""

from __future__ import annotations

import atexit
import functools
import logging
import threading
import time
from collections.abc import Callable

_PAUSE_S = 2.0
"""Time between two deliveries of one trial: what is logged meanwhile goes out in one call."""
_EXIT_S = 20.0
"""Longest that the end of the process waits for deliveries; what is left is in journals."""
_log = logging.getLogger(__name__)

Delivery = Callable[[], object]


class Courier:
    """Calls deliveries, one at a time, in the order in which they become due.

    A delivery that is asked for again while it waits is called once. It must take all that there is to deliver, and
    must see for itself that nothing is lost where it cannot.

    Args:
        pause_s: least time between two calls of the same delivery, unless it is wanted at once.
    """

    def __init__(self, pause_s: float = _PAUSE_S) -> None:
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._due: dict[Delivery, float] = {}
        self._last: dict[Delivery, float] = {}
        self._busy = False
        self._thread: threading.Thread | None = None

    def visit(self, delivery: Delivery, *, at_once: bool = False) -> None:
        """Have a delivery called soon; returns without waiting."""
        with self._changed:
            due = 0.0 if at_once else self._last.get(delivery, -self._pause_s) + self._pause_s
            self._due[delivery] = min(due, self._due.get(delivery, due))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="prism-ray-courier", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Call all deliveries that wait now, without their pauses; False where that takes longer than `timeout_s`."""
        with self._changed:
            self._due = dict.fromkeys(sorted(self._due, key=self._due.__getitem__), 0.0)
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._due and not self._busy, timeout_s)

    def _work(self) -> None:
        while True:
            delivery = self._next()
            try:
                delivery()
            except Exception:  # noqa: BLE001  (a thread has no caller; the study must hear of it and go on)
                _log.exception("a delivery to the tracker failed in a way that nobody foresaw")
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> Delivery:
        """The delivery that is due first, once it is due."""
        with self._changed:
            while True:
                if self._due:
                    delivery = min(self._due, key=self._due.__getitem__)
                    wait_s = self._due[delivery] - time.monotonic()
                    if wait_s <= 0:
                        del self._due[delivery]
                        self._last = {
                            one: at for one, at in self._last.items() if time.monotonic() - at < self._pause_s
                        }
                        self._last[delivery] = time.monotonic()
                        self._busy = True
                        return delivery
                    self._changed.wait(wait_s)
                else:
                    self._changed.wait()


@functools.cache
def process_courier() -> Courier:
    """The courier of this process; when the process ends it is waited for, within limits."""
    courier = Courier()
    atexit.register(courier.flush, _EXIT_S)
    return courier
