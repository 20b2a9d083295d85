"""One Parquet file of a store: opened, checked as far as it is read, and read by column and row group.

A projection reads a small part of a large file, so hashing whole files at each opening would cost more than the
reading. Three checks in proportion to what is read replace it: the file's size, the SHA-256 of its footer (which
places every column), and the checksum that each page carries. `content_fault` hashes the whole file. Files in a bucket
are read by ranges; their footers, once found right, are kept in the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prism_ray.errors import Fault, StoreError
from prism_ray.store.place import RemoteFolder, StorePlace
from prism_ray.store.reading import count_bytes
from prism_ray.store.schema import FileEntry

_TAIL_BYTES = 8  # length of the footer (4 bytes, little endian), then the mark PAR1
_BLOCK_BYTES = 1 << 20
_REMOTE_TAIL_BYTES = 128 << 10
"""Fetched at once of a file in a bucket: the footers of most files are shorter."""
_KEPT_FOOTERS = 4096
_MEND = "restore it from a copy, or build the store again"


def sha256_of_file(path: StorePlace) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with _opened(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_footer(path: Path) -> str:
    """SHA-256 of a Parquet file's footer with its length and mark, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.sha256(_footer(stream, path.stat().st_size, _TAIL_BYTES)).hexdigest()


def _footer(stream: Any, size: int, n_first: int) -> bytes:
    """A Parquet file's footer with its length and mark, by one read of `n_first` bytes where they hold it, else two."""
    n_first = min(n_first, size)
    stream.seek(size - n_first)
    tail = bytes(stream.read(n_first))
    n_bytes = min(size, int.from_bytes(tail[-_TAIL_BYTES:][:4], "little") + _TAIL_BYTES)
    if n_bytes > n_first:
        stream.seek(size - n_bytes)
        tail = bytes(stream.read(n_bytes))
    return tail[-n_bytes:]


def _opened(path: StorePlace) -> AbstractContextManager[Any]:
    return path.opened() if isinstance(path, RemoteFolder) else path.open("rb")


def size_faults(store: StorePlace, entries: Iterable[FileEntry]) -> list[Fault]:
    """What is wrong with files' presence or sizes, without opening them.

    Raises:
        StoreError: a bucket cannot be listed.
    """
    if isinstance(store, RemoteFolder):
        sizes = store.sizes()
        found = [_size_fault(store / entry.path, entry, sizes.get(entry.path)) for entry in entries]
    else:
        found = [size_fault(store, entry) for entry in entries]
    return [fault for fault in found if fault is not None]


def size_fault(store: Path, entry: FileEntry) -> Fault | None:
    """What is wrong with a file's presence or size, without opening it."""
    path = store / entry.path
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        size = None
    except OSError as problem:
        return Fault(str(path), f"cannot be read ({problem.strerror})")
    return _size_fault(path, entry, size)


def _size_fault(path: StorePlace, entry: FileEntry, size: int | None) -> Fault | None:
    if size is None:
        return Fault(str(path), "no such file", f"the store is incomplete: {_MEND}")
    return _other_size(path, size, entry.bytes)


def _other_size(path: StorePlace, found: int, expected: int) -> Fault | None:
    if found == expected:
        return None
    return Fault(str(path), f"has {found} bytes, store.json says {expected}", f"the file is damaged: {_MEND}")


def content_fault(store: StorePlace, entry: FileEntry) -> Fault | None:
    """What is wrong with a file's presence, size or bytes, by reading all of it."""
    fault = None if isinstance(store, RemoteFolder) else size_fault(store, entry)
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

    def __init__(self, store: StorePlace, entry: FileEntry) -> None:
        self.path = store / entry.path
        self._opened = ExitStack()
        if isinstance(self.path, RemoteFolder):
            self._metadata = _remote_footer(self.path, entry.bytes, entry.footer_sha256)
            return
        assert isinstance(store, Path)
        fault = size_fault(store, entry)
        if fault is None and sha256_of_footer(self.path) != entry.footer_sha256:
            fault = _other_footer(self.path)
        _refuse(fault)
        self._metadata = self._file.metadata

    def __enter__(self) -> PartitionFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @cached_property
    def _file(self) -> Any:
        """Parquet's reader; a file in a bucket is opened when something is read of it."""
        if not isinstance(self.path, RemoteFolder):
            return self._opened.enter_context(pq.ParquetFile(self.path, page_checksum_verification=True))
        stream = self._opened.enter_context(self.path.opened())
        # Ranges of the columns wanted, joined where they touch and several at a time: requests take long.
        file = pq.ParquetFile(stream, metadata=self._metadata, pre_buffer=True, page_checksum_verification=True)
        return self._opened.enter_context(file)

    def row_groups(self) -> Iterator[tuple[int, int, int]]:
        """Number, first row and one past the last row of each row group."""
        start = 0
        for number in range(self._metadata.num_row_groups):
            end = start + self._metadata.row_group(number).num_rows
            yield number, start, end
            start = end

    def read(self, row_groups: Sequence[int], columns: Sequence[str], *, threads: bool = True) -> Any:
        """Table of some columns of some row groups, decoded by several threads unless `threads` is false.

        Raises:
            StoreError: a page's bytes are damaged, or a column is not there.
        """
        n_bytes = self.compressed_bytes(row_groups, columns)  # before Parquet leaves out what it has not
        try:
            table = self._file.read_row_groups(list(row_groups), columns=list(columns), use_threads=threads)
        except (OSError, pa.ArrowException) as problem:
            raise self._damaged(problem) from problem
        count_bytes(n_bytes)
        return table

    def _damaged(self, problem: Exception) -> StoreError:
        first_line = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        again = "run again, and if it stays " if isinstance(self.path, RemoteFolder) else ""
        fault = Fault(str(self.path), f"cannot be read ({first_line})", f"{again}the file is damaged: {_MEND}")
        return StoreError(str(fault), [fault])

    def compressed_bytes(self, row_groups: Sequence[int], columns: Sequence[str]) -> int:
        """Bytes on disk of some columns of some row groups.

        Raises:
            StoreError: the file has no such column, which store.json promises.
        """
        missing = [name for name in columns if name not in self._column_index]
        if missing:
            fix = f"file and store.json are not of one store: {_MEND}"
            _refuse(Fault(str(self.path), f"has no column {missing[0]!r}, which store.json promises", fix))
        wanted = [self._column_index[name] for name in columns]
        total = 0
        for number in row_groups:
            group = self._metadata.row_group(number)
            total += sum(int(group.column(index).total_compressed_size) for index in wanted)
        return total

    @cached_property
    def _column_index(self) -> dict[str, int]:
        """Place of each column among Parquet's, which has one for each of ours."""
        schema = self._metadata.schema
        # A tensor column is a list to Parquet, with the path NAME.list.element.
        return {schema.column(index).path.split(".")[0]: index for index in range(len(schema))}


def _refuse(fault: Fault | None) -> None:
    if fault is not None:
        raise StoreError(str(fault), [fault])


def _other_footer(path: StorePlace) -> Fault:
    return Fault(str(path), "has another footer than store.json says", f"the file is damaged: {_MEND}")


@lru_cache(_KEPT_FOOTERS)
def _remote_footer(path: RemoteFolder, size: int, sha256: str) -> Any:
    """Parquet's metadata of a file in a bucket, fetched and checked once a process.

    Args:
        size: that the file must have, in bytes.
        sha256: that its footer must have.

    Raises:
        StoreError: the file is missing or another one, or cannot be read.
    """
    with path.opened() as stream:
        found = int(stream.size())
        _refuse(_other_size(path, found, size))
        footer = _footer(stream, size, _REMOTE_TAIL_BYTES)
    if hashlib.sha256(footer).hexdigest() != sha256:
        _refuse(_other_footer(path))
    return pq.read_metadata(pa.BufferReader(footer))


def tensor_to_numpy(column: Any) -> NDArray[Any]:
    """(n, width) array of a fixed-shape tensor column."""
    chunks = [chunk.to_numpy_ndarray() for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
