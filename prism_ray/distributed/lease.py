"""A lease on a folder of the workspace: one process at a time works in it, and others see whether that one lives.

The holder writes who it is and keeps the file's time fresh from a thread. On the same machine a holder that died is
seen at once, by its process; on another one when the file has not changed for `STALE_S`. No clocks are compared: who
waits watches the file with its own. A holder that was frozen while its lease was taken over is told at its next look.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import psutil

from prism_ray.training.preemption import RunInterruptedError

BEAT_S = 5.0
"""Seconds between two signs of life."""
STALE_S = 45.0
"""Seconds without one after which a holder on another machine counts as dead: storage may hang for a while."""
_LOOK_S = 0.2


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes:
        token: different for every lease that is ever taken.
        host: name of the machine, for people.
        place: where process numbers mean the same: one start of one kernel, and one of its namespaces of processes.
        pid: number of the process there.
        process_started: when the process started, in seconds of its machine's clock; numbers are used again.
        since: when it took the lease, UTC in ISO format.
        purpose: what it does, for people.
    """

    token: str
    host: str
    place: str
    pid: int
    process_started: float
    since: str
    purpose: str

    @classmethod
    def this_process(cls, purpose: str) -> Holder:
        """A new holder, this process."""
        return cls(
            token=uuid.uuid4().hex,
            host=platform.node(),
            place=_this_place(),
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            since=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            purpose=purpose,
        )

    def is_seen_dead(self) -> bool:
        """True where its process would be seen from here and is not there any more; False where nobody can say."""
        if self.place != _this_place():
            return False
        try:
            process = psutil.Process(self.pid)
            is_other = bool(process.create_time() != self.process_started)
            return is_other or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"{self.purpose}, process {self.pid} on {self.host}, since {self.since}"


class LeaseLostError(RunInterruptedError):
    """Another process took the lease over while this one gave no sign of life; this one must not write any more."""


class Lease:
    """A lease that this process holds; leave its context to give it back.

    Args:
        path: file of the lease.
        holder: who this process says it is.
    """

    def __init__(self, path: Path, holder: Holder, beat_s: float = BEAT_S) -> None:
        self._path = path
        self._holder = holder
        self._beat_s = beat_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {path.parent.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        if self._is_ours():
            self._path.unlink(missing_ok=True)

    def check(self) -> None:
        """Make sure that this process may still write.

        Raises:
            LeaseLostError: it may not.
        """
        if not self._is_ours():
            raise LeaseLostError(f"{self._path}: was taken over by {read_holder(self._path) or 'somebody'}")

    def _is_ours(self) -> bool:
        holder = read_holder(self._path)
        return holder is not None and holder.token == self._holder.token

    def _beat(self) -> None:
        while not self._over.wait(self._beat_s):
            try:
                if self._is_ours():
                    os.utime(self._path)
            except OSError:
                continue  # storage that is away for a while; whoever watches sees the same


def read_holder(path: Path) -> Holder | None:
    """Who holds the lease of a file; None where nobody does, or whoever does is writing it."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def take_lease(
    path: Path,
    purpose: str,
    *,
    waited_enough: Callable[[Holder | None], bool],
    beat_s: float = BEAT_S,
    stale_s: float = STALE_S,
) -> Lease | None:
    """Take the lease of a file as soon as it is free or its holder is dead.

    Args:
        path: file of the lease, in a folder that is there.
        purpose: what this process does, for others to read.
        waited_enough: asked again and again while another holder may live; True to give up.
        beat_s, stale_s: see `BEAT_S`, `STALE_S`.

    Returns:
        The lease, or None where it was given up.
    """
    holder = Holder.this_process(purpose)
    watch = _Watch(path, stale_s)
    while True:
        if _create(path, holder) or (watch.is_dead() and _take_over(path, holder, stale_s)):
            return Lease(path, holder, beat_s)
        if waited_enough(read_holder(path)):
            return None
        time.sleep(_LOOK_S)


class _Watch:
    """Tells whether the holder of a file is dead: its process is gone, or the file has not changed for too long."""

    def __init__(self, path: Path, stale_s: float) -> None:
        self._path = path
        self._stale_s = stale_s
        self._seen: tuple[int, int] | None = None
        self._since = time.monotonic()

    def is_dead(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        seen = status.st_ino, status.st_mtime_ns
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        holder = read_holder(self._path)
        return (holder is not None and holder.is_seen_dead()) or time.monotonic() - self._since > self._stale_s


def _create(path: Path, holder: Holder) -> bool:
    """Write the file of a holder where there is none; on a full disk nothing is left of it."""
    try:
        with path.open("x") as file:
            json.dump(asdict(holder), file)
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _take_over(path: Path, holder: Holder, stale_s: float) -> bool:
    """Replace a dead holder; only one of several that try can."""
    dead = read_holder(path)
    right = path.with_name(f"{path.name}.{dead.token if dead is not None else 'unreadable'}")
    if not _create(right, holder):
        # Somebody is at it. If that one died meanwhile, the next look finds the right free again.
        if _Watch(right, stale_s).is_dead():
            right.unlink(missing_ok=True)
        return False
    try:
        if read_holder(path) != dead:
            return False
        temporary = path.with_name(f".{path.name}.{holder.token}")
        _create(temporary, holder)
        temporary.replace(path)
        return True
    finally:
        right.unlink(missing_ok=True)


def _this_place() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if not (boot.exists() and os.path.lexists(namespace)):
        return platform.node()
    return f"{boot.read_text().strip()} {os.readlink(namespace)}"
