"""One Parquet file of a store: opened, checked as far as it is read, and read by column and row group.

A projection reads a small part of a large file, so hashing whole files at each opening would cost more than the
reading. Three checks in proportion to what is read replace it: the file's size, the SHA-256 of its footer (which
places every column), and the checksum that each page carries. `check_all_bytes` hashes the whole file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prism_ray.errors import Fault, FaultList, StoreError
from prism_ray.store.schema import FileEntry

_TAIL_BYTES = 8  # length of the footer (4 bytes, little endian), then the mark PAR1
_BLOCK_BYTES = 1 << 20
_MEND = "restore it from a copy, or build the store again"


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_footer(path: Path) -> str:
    """SHA-256 of a Parquet file's footer with its length and mark, hexadecimal."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _TAIL_BYTES))
        n_bytes = int.from_bytes(stream.read(_TAIL_BYTES)[:4], "little") + _TAIL_BYTES
        stream.seek(max(0, size - n_bytes))
        return hashlib.sha256(stream.read()).hexdigest()


def size_fault(store: Path, entry: FileEntry) -> Fault | None:
    """What is wrong with a file's presence or size, without opening it."""
    path = store / entry.path
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return Fault(str(path), "no such file", f"the store is incomplete: {_MEND}")
    except OSError as problem:
        return Fault(str(path), f"cannot be read ({problem.strerror})")
    if size != entry.bytes:
        return Fault(str(path), f"has {size} bytes, store.json says {entry.bytes}", f"the file is damaged: {_MEND}")
    return None


def content_fault(store: Path, entry: FileEntry) -> Fault | None:
    """What is wrong with a file's presence, size or bytes, by reading all of it."""
    fault = size_fault(store, entry)
    if fault is not None:
        return fault
    path = store / entry.path
    try:
        given = sha256_of_file(path)
    except OSError as problem:
        return Fault(str(path), f"cannot be read ({problem.strerror})")
    if given != entry.sha256:
        problem_text = f"has SHA-256 {given[:12]}..., store.json says {entry.sha256[:12]}..."
        return Fault(str(path), problem_text, f"its bytes were changed: {_MEND}")
    return None


class PartitionFile:
    """One Parquet file of a store, open for reading. Use as a context manager.

    Raises:
        StoreError: at opening, missing, of another size or with another footer than `store.json` says.
    """

    def __init__(self, store: Path, entry: FileEntry) -> None:
        self.path = store / entry.path
        faults = FaultList()
        fault = size_fault(store, entry)
        if fault is None and sha256_of_footer(self.path) != entry.footer_sha256:
            fault = Fault(str(self.path), "has another footer than store.json says", f"the file is damaged: {_MEND}")
        if fault is not None:
            faults.extend([fault])
        faults.raise_if_any(StoreError)
        self._file = pq.ParquetFile(self.path, page_checksum_verification=True)

    def __enter__(self) -> PartitionFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def row_groups(self) -> Iterator[tuple[int, int, int]]:
        """Number, first row and one past the last row of each row group."""
        start = 0
        for number in range(self._file.metadata.num_row_groups):
            end = start + self._file.metadata.row_group(number).num_rows
            yield number, start, end
            start = end

    def read(self, row_groups: Sequence[int], columns: Sequence[str], *, threads: bool = True) -> Any:
        """Table of some columns of some row groups, decoded by several threads unless `threads` is false.

        Raises:
            StoreError: a page's bytes are damaged.
        """
        try:
            return self._file.read_row_groups(list(row_groups), columns=list(columns), use_threads=threads)
        except (OSError, pa.ArrowException) as problem:
            raise self._damaged(problem) from problem

    def _damaged(self, problem: Exception) -> StoreError:
        faults = FaultList()
        first_line = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        faults.add(str(self.path), f"cannot be read ({first_line})", f"the file is damaged: {_MEND}")
        try:
            faults.raise_if_any(StoreError)
        except StoreError as error:
            return error
        raise AssertionError("a fault list without faults")

    def compressed_bytes(self, row_groups: Sequence[int], columns: Sequence[str]) -> int:
        """Bytes on disk of some columns of some row groups."""
        wanted = set(columns)
        total = 0
        for number in row_groups:
            group = self._file.metadata.row_group(number)
            for index in range(group.num_columns):
                column = group.column(index)
                # A tensor column is a list to Parquet, with the path NAME.list.element.
                if column.path_in_schema.split(".")[0] in wanted:
                    total += int(column.total_compressed_size)
        return total


def tensor_to_numpy(column: Any) -> NDArray[Any]:
    """(n, width) array of a fixed-shape tensor column."""
    chunks = [chunk.to_numpy_ndarray() for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
