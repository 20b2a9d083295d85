"""The folder in which a store is built, beside its final place, until it is whole.

`.NAME.partial` holds finished partitions and a record of each. A build that was interrupted goes on from them if its
catalog, files, window and version are the same; else they are discarded. The last act is a rename.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import IO
from urllib.parse import quote

from pydantic import ValidationError

from prism_ray.errors import FaultList, StoreError
from prism_ray.store.files import content_fault
from prism_ray.store.quality import BuildReport
from prism_ray.store.schema import DESCRIPTION_FILE, SUCCESS_FILE, StoreDescription
from prism_ray.store.tally import PartitionRecord
from prism_ray.store.write import UNFINISHED

_RECORDS = "_records"
_KEY_FILE = "_key"
_LOCK_FILE = "_lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


def refuse_existing(out: Path) -> None:
    """Refuse a store that exists, or whose folder does not or cannot be written.

    Raises:
        StoreError: with what to do instead.
    """
    faults = FaultList()
    if os.path.lexists(out):
        faults.add(str(out), "exists already", "give another --out, or move it away; a store is never overwritten")
    elif not out.absolute().parent.is_dir():
        faults.add(str(out), f"{out.absolute().parent} is no folder", "create it, or give another --out")
    elif not os.access(out.absolute().parent, os.W_OK | os.X_OK):
        faults.add(str(out), f"{out.absolute().parent} cannot be written by this user", "give another --out")
    faults.raise_if_any(StoreError)


class Staging:
    """Folder of a build in progress, held by one build at a time. Use as a context manager.

    Args:
        out: final place of the store.
        key: identifies what is built; partitions of another key are discarded.

    Attributes:
        path: the folder.
        discarded: whether partitions of another key were found, and deleted.

    Raises:
        StoreError: `out` exists, its folder cannot be written, or another build is writing it.
    """

    def __init__(self, out: Path, key: str) -> None:
        refuse_existing(out)
        self._out = out
        self._key = key
        self.path = out.absolute().parent / f".{out.name}.partial"
        self._lock = self._locked()
        key_file = self.path / _KEY_FILE
        known = key_file.read_text(encoding="utf-8") if key_file.is_file() else None
        self.discarded = known is not None and known != key
        if known != key:
            self._clear()
            key_file.write_text(key, encoding="utf-8")

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        # What holds no finished partition is not worth going on from.
        if self.path.is_dir() and not (self.path / _RECORDS).is_dir():
            shutil.rmtree(self.path)
        self._lock.close()

    def _locked(self) -> IO[str]:
        # The lock is the operating system's: it ends with the process, however that ends.
        faults = FaultList()
        lock: IO[str] | None = None
        try:
            self.path.mkdir(exist_ok=True)
            lock = (self.path / _LOCK_FILE).open("w", encoding="utf-8")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            faults.add(str(self._out), "another build is writing it", "wait for that build, or give another --out")
        except OSError as problem:
            # Some shared file systems have no locks. Two builds of one key write the same bytes, file by file.
            if lock is None or problem.errno not in _NO_LOCKS:
                faults.add(str(self._out), f"cannot be written ({problem.strerror})", "give another --out")
        if faults and lock is not None:
            lock.close()
        faults.raise_if_any(StoreError)
        assert lock is not None
        return lock

    def _clear(self) -> None:
        for child in self.path.iterdir():
            if child.is_dir():
                shutil.rmtree(child)
            elif child.name != _LOCK_FILE:
                child.unlink()

    def finished(self, cell_type: str, chrom: str) -> PartitionRecord | None:
        """Record of a partition that an earlier build finished, if its file still has the same bytes."""
        record = self.record(cell_type, chrom)
        return record if record is not None and content_fault(self.path, record.entry) is None else None

    def record(self, cell_type: str, chrom: str) -> PartitionRecord | None:
        """Record of a partition that an earlier build finished; its file is not looked at."""
        path = _record_path(self.path, self._key, cell_type, chrom)
        try:
            return PartitionRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return None

    def finish(self, description: StoreDescription, report: BuildReport) -> None:
        """Make it a store: description, report, success mark, then its final name.

        Raises:
            StoreError: the final name was taken meanwhile.
        """
        report.write(self.path)
        (self.path / DESCRIPTION_FILE).write_text(description.to_json(), encoding="utf-8")
        (self.path / SUCCESS_FILE).touch()
        self.publish()

    def publish(self) -> None:
        """Give the folder its final name, without what belongs to the staging alone.

        Raises:
            StoreError: the final name was taken meanwhile.
        """
        for left_over in self.path.rglob(f"*{UNFINISHED}"):
            left_over.unlink()
        refuse_existing(self._out)
        # Last of all: without them an interrupted build starts anew.
        shutil.rmtree(self.path / _RECORDS)
        for name in (_KEY_FILE, _LOCK_FILE):
            (self.path / name).unlink()
        self.path.rename(self._out)


def write_record(staging: Path, key: str, record: PartitionRecord) -> None:
    """Note that a partition is finished; called after its file has its final name.

    Args:
        staging: folder of the build.
        key: of the build: a worker of another build that was killed may still be at work in the same folder.
        record: of the partition.
    """
    path = _record_path(staging, key, record.entry.cell_type, record.entry.chrom)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    temporary.write_text(json.dumps(record.model_dump(mode="json")), encoding="utf-8")
    temporary.replace(path)


def _record_path(staging: Path, key: str, cell_type: str, chrom: str) -> Path:
    return staging / _RECORDS / quote(key, safe="") / f"{quote(cell_type, safe='')}={quote(chrom, safe='')}.json"
