"""A lock on the run of one trial, for all threads and processes that may find or make it."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_log = logging.getLogger(__name__)


@contextmanager
def run_lock(journal_path: Path | None) -> Iterator[None]:
    """Only one block at a time for each journal; the others wait.

    A trial's own process may still be at its delivery to a slow store when the driver delivers the journal: both look
    for the trial's run, find none, and make one each.

    Args:
        journal_path: file beside which the lock is, and gone after it; None for a run that nobody else delivers.
    """
    lock = _locked(journal_path.with_name(f".{journal_path.name}.lock")) if journal_path is not None else None
    try:
        yield
    finally:
        if lock is not None:
            descriptor, path = lock
            try:
                path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


def _locked(path: Path) -> tuple[int, Path] | None:
    """The lock's open file and its path; None where the folder has no locks: a run too many loses nothing."""
    while True:
        with ExitStack() as undo:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
                undo.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as problem:
                _log.warning("%s: the run is looked for without a lock (%s)", path, problem)
                return None
            # The one before removes the file before it lets go: then this is a file that others no longer find.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    undo.pop_all()
                    return descriptor, path
