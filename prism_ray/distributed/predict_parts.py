"""Predictions on disk: a part a shard, beside the final file until all are there.

`.NAME.partial` holds finished parts. What was interrupted goes on from them where model, data and genes are the same;
else they are discarded. The last act is a rename.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prism_ray.errors import FaultList, InputError

_KEY_FILE = "_key"
_LOCK_FILE = "_lock"
_WHOLE = "whole"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


def prediction_table(
    genes: pd.DataFrame,
    plain: NDArray[np.float32],
    adjusted: NDArray[np.float32] | None,
    states: NDArray[np.float32] | None,
) -> pa.Table:
    """Table of some genes, a row each.

    Args:
        genes: gene_id, gene_name, chrom, tss, label.
        plain: (B,), in units of the label.
        adjusted: (B,); None for a model without background states, null in the table.
        states: weights a_i, (B, D, n); None where they are not kept. Column `state_i` is a_i, a list of D.
    """
    columns: dict[str, pa.Array] = {
        name: pa.array(genes[name].to_numpy(dtype=object), pa.string()) for name in ("gene_id", "gene_name", "chrom")
    }
    columns["tss"] = pa.array(genes["tss"].to_numpy(dtype=np.int64))
    columns["label"] = pa.array(genes["label"].to_numpy(dtype=np.float32))
    columns["plain"] = pa.array(plain, pa.float32())
    columns["adjusted"] = pa.nulls(len(genes), pa.float32()) if adjusted is None else pa.array(adjusted, pa.float32())
    if states is not None:
        n_channels = states.shape[1]
        for number in range(states.shape[2]):
            values = pa.array(np.ascontiguousarray(states[:, :, number]).reshape(-1), pa.float32())
            columns[f"state_{number + 1}"] = pa.FixedSizeListArray.from_arrays(values, n_channels)
    return pa.table(columns)


def write_part(folder: Path, number: int, table: pa.Table) -> None:
    """Write a part; it has its name only when it is whole."""
    temporary = folder / f".{number}.{uuid.uuid4().hex}"
    try:
        pq.write_table(table, temporary)
        temporary.replace(_part(folder, number))
    finally:
        temporary.unlink(missing_ok=True)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def refuse_existing(out: Path) -> None:
    """Refuse a file that exists, or whose folder does not or cannot be written.

    Raises:
        InputError: with what to do instead.
    """
    faults = FaultList()
    folder = out.absolute().parent
    if os.path.lexists(out):
        faults.add(str(out), "exists already", "give another --out, or move it away; predictions are never overwritten")
    elif not folder.is_dir():
        faults.add(str(out), f"{folder} is no folder", "create it, or give another --out")
    elif not os.access(folder, os.W_OK | os.X_OK):
        faults.add(str(out), f"{folder} cannot be written by this user", "give another --out")
    faults.raise_if_any(InputError)


class Parts:
    """Folder of predictions in progress, held by one process at a time. Use as a context manager.

    Args:
        out: final file.
        key: identifies what is predicted; parts of another key are discarded.

    Attributes:
        path: the folder.
        discarded: whether parts of another key were found, and deleted.

    Raises:
        InputError: `out` exists, its folder cannot be written, or another process is writing it.
    """

    def __init__(self, out: Path, key: str) -> None:
        refuse_existing(out)
        self._out = out
        self.path = out.absolute().parent / f".{out.name}.partial"
        self._lock = self._locked()
        known_file = self.path / _KEY_FILE
        known = known_file.read_text(encoding="utf-8") if known_file.is_file() else None
        self.discarded = known is not None and known != key
        if known != key:
            for file in self.path.iterdir():
                if file.name != _LOCK_FILE:
                    file.unlink()
            known_file.write_text(key, encoding="utf-8")

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        # What holds no finished part is not worth going on from.
        if self.path.is_dir() and not any(self.path.glob("part-*")):
            shutil.rmtree(self.path)
        self._lock.close()

    def _locked(self) -> IO[str]:
        # The lock is the operating system's: it ends with the process, however that ends.
        faults = FaultList()
        self.path.mkdir(exist_ok=True)
        lock = (self.path / _LOCK_FILE).open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            faults.add(str(self._out), "another process is predicting it", "wait for it, or give another --out")
        except OSError as problem:
            # Some shared file systems have no locks. Two processes of one key write the same parts, file by file.
            if problem.errno not in _NO_LOCKS:
                lock.close()
                raise
        if faults:
            lock.close()
        faults.raise_if_any(InputError)
        return lock

    def finished(self, number: int, n_genes: int) -> bool:
        """Whether an earlier process left a readable part with that many genes."""
        try:
            return bool(pq.read_metadata(_part(self.path, number)).num_rows == n_genes)
        except (FileNotFoundError, pa.ArrowInvalid):
            return False

    def publish(self, n_parts: int) -> None:
        """Put the parts together, in order, under the final name; the folder is gone afterwards.

        Raises:
            InputError: the final name was taken meanwhile.
        """
        whole = self.path / _WHOLE
        with pq.ParquetWriter(whole, pq.read_schema(_part(self.path, 0))) as writer:
            for number in range(n_parts):
                writer.write_table(pq.read_table(_part(self.path, number)))
        refuse_existing(self._out)
        whole.rename(self._out)
        shutil.rmtree(self.path)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Number columns of a file of predictions, (N,) each; a null is NaN."""
    table = pq.read_table(path, columns=list(names))
    return {name: table[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in names}
