"""A request to stop a launch: a file that the driver and every running trial look for.

`<storage>/studies/<study>/stop.json` reaches every node of a cluster, whoever wrote it: the driver on Ctrl-C, on
SIGTERM or at the end of a budget, or another process that was told to cancel the study.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Literal

from prism_ray.distributed.workspace import write_whole

STOP_NAME = "stop.json"
_LOOK_S = 1.0
"""Least time between two looks for the file, which may be on a shared disk far away."""


@dataclass(frozen=True)
class StopRequest:
    """Why a launch is to stop.

    Attributes:
        reason: in words.
        kind: `user` where somebody wants it, `budget` where the study's own limits do.
        asked: when, UTC in ISO format.
        by: process and machine that asked.
    """

    reason: str
    kind: Literal["user", "budget"]
    asked: str
    by: str


def request_stop(folder: Path, reason: str, kind: Literal["user", "budget"] = "user") -> None:
    """Ask the launch of the study in `folder` to stop: running trials save and end, no other is started.

    A request that is there stays: a later one changes nothing.
    """
    if read_stop(folder) is not None:
        return
    asked = datetime.now(timezone.utc).isoformat(timespec="seconds")
    request = StopRequest(reason, kind, asked, f"process {os.getpid()} on {platform.node()}")
    write_whole(folder / STOP_NAME, json.dumps(asdict(request), indent=1), durable=False)


def read_stop(folder: Path) -> StopRequest | None:
    """The request to stop the study in `folder`; None where there is none."""
    try:
        return StopRequest(**json.loads((folder / STOP_NAME).read_text()))
    except FileNotFoundError:
        return None


def clear_stop(folder: Path) -> None:
    """Forget a request: what an earlier launch was told does not stop the next."""
    (folder / STOP_NAME).unlink(missing_ok=True)


class StopWatch:
    """Looks for a request at most once a second, so that it can be asked after every step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_look = 0.0
        self._found: StopRequest | None = None

    def __call__(self) -> StopRequest | None:
        """The request, once there is one."""
        if self._found is None and time.monotonic() >= self._next_look:
            self._found = read_stop(self._folder)
            self._next_look = time.monotonic() + _LOOK_S
        return self._found


@contextmanager
def signals_stop(folder: Path) -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM asks the launch to stop; the second SIGINT interrupts as Python does.

    Only a process's main thread may say what a signal does; in any other, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        request_stop(folder, f"the launch was told to end by {signal.Signals(number).name}")

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            # A handler that was not installed from Python reads as None and cannot be put back by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
