"""The driver of a study: one at a time, found again by others while it lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prism_ray.distributed.lease import Holder, read_holder, take_lease
from prism_ray.errors import BusyError, Fault, InputError

DRIVER_NAME = "driver.json"


@contextmanager
def only_driver(folder: Path, study: str) -> Iterator[None]:
    """Inside, this process is the only driver of the study in `folder`.

    A driver that was killed on this machine is replaced at once; one on another machine when it has given no sign of
    life for a while, for which this waits. Folders that are empty in the end are removed again.

    Raises:
        BusyError: another driver lives.
        InputError: the folder cannot be made or written.
    """
    storage = folder.parent.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _unusable(storage, problem) from None
    path = folder / DRIVER_NAME
    first_beat: list[int] = []
    here = Holder.this_process("")

    def waited_enough(holder: Holder | None) -> bool:
        if holder is None:
            return False
        if holder.place == here.place:
            return not holder.is_seen_dead()
        with suppress(FileNotFoundError):
            first_beat.append(path.stat().st_mtime_ns)
        return len(set(first_beat)) > 1

    try:
        lease = take_lease(path, f"study {study}", waited_enough=waited_enough)
    except OSError as problem:
        raise _unusable(storage, problem) from None
    if lease is None:
        fault = Fault(
            f"study {study}",
            f"is being run already ({read_holder(path) or 'by another process'})",
            f"`prism-ray status {study}` says what it does; wait for it, or stop it with `prism-ray cancel {study}`",
        )
        raise BusyError(str(fault), [fault])
    try:
        with lease:
            yield
    finally:
        with suppress(OSError):
            for left in (folder, folder.parent, folder.parent.parent):
                left.rmdir()


def _unusable(storage: Path, problem: OSError) -> InputError:
    fault = Fault(
        f"--storage {storage}", f"cannot be written ({problem.strerror})", "give a folder that you may write, with room"
    )
    return InputError(str(fault), [fault])
