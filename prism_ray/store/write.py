"""Writing one Parquet file of a store: the genes of a cell type on a chromosome, row group by row group.

n genes of a row group, L positions in bp, K scalars.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prism_ray.errors import FaultList, StoreError
from prism_ray.store.files import sha256_of_file, sha256_of_footer
from prism_ray.store.layout import GeneRows, Layout
from prism_ray.store.precision import Rounding, check_range, measure_rounding
from prism_ray.store.projection import SCALARS
from prism_ray.store.rings import SEQUENCE, cut_ring
from prism_ray.store.schema import Dtype, FileEntry

UNFINISHED = ".writing"
"""End of the name of a file that is being written."""
Writer = TypeVar("Writer", bound="TrackFile")


class TrackFile:
    """Writes windows of the genes of a partition to one file. Use as a context manager, then call `close`.

    The file has a temporary name until it is closed, so a file of the final name is whole.

    Args:
        root: folder that the entry's path starts from.
        entry: cell type and chromosome of the genes; decides the file's name.
        layout: columns of windows.
        schema: Arrow schema of the file.
    """

    def __init__(self, root: Path, entry: FileEntry, layout: Layout, schema: Any) -> None:
        self._entry = entry
        self._path = root / entry.path
        # A worker that outlives a killed build may still write the same partition: to a file of its own.
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}{UNFINISHED}")
        self._layout = layout
        self._schema = schema
        self._content = _ContentDigest()
        self._rows = 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self._temporary,
            self._schema,
            compression="zstd",
            write_page_checksum=True,
            # Smallest and largest value of a tensor's elements help no reader.
            write_statistics=[name for name in ("gene_id", "tss") if name in schema.names],
        )

    def __enter__(self: Writer) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer.is_open:
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def close(self) -> FileEntry:
        """Give the file its final name.

        Returns:
            Its entry for `store.json`.
        """
        self._writer.close()
        entry = self._entry.model_copy(
            update={
                "rows": self._rows,
                "bytes": self._temporary.stat().st_size,
                "sha256": sha256_of_file(self._temporary),
                "footer_sha256": sha256_of_footer(self._temporary),
                "content_sha256": self._content.hexdigest(),
            }
        )
        self._temporary.replace(self._path)
        return entry

    def _write(self, columns: dict[str, Any], n_rows: int) -> None:
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=max(1, n_rows))
        self._rows += n_rows

    def _add_values(self, columns: dict[str, Any], values: dict[str, Any]) -> None:
        """Add columns of one value a gene, and count them in the content."""
        for name, column in values.items():
            columns[name] = column
            self._content.add_values(name, column.to_pylist())

    def _add_tensor(self, columns: dict[str, Any], name: str, values: NDArray[Any]) -> None:
        """Add one tensor column of (n, width), and count it in the content."""
        columns[name] = _tensor(values, self._schema.field(name).type)
        self._content.add_array(name, values)

    def _add_track(self, columns: dict[str, Any], name: str, values: NDArray[Any]) -> None:
        """Add the rings of windows (n, L), in the type that they are stored in, and count them in the content."""
        assert values.shape[1] == self._layout.window_bp, (name, values.shape)
        self._content.add_array(name, values)
        for ring in self._layout.rings:
            column_type = self._schema.field(ring.column(name)).type
            columns[ring.column(name)] = _tensor(cut_ring(values, ring), column_type)

    def _stored(
        self, signals: Mapping[str, NDArray[np.float32]]
    ) -> Iterator[tuple[str, NDArray[Any], Rounding | None]]:
        """Signals in the type that they are stored in, one at a time, and what rounding cost.

        Raises:
            StoreError: values beyond the range of float16, all such signals together.
        """
        faults = FaultList()
        for name, dtype in self._layout.signals:
            values = np.ascontiguousarray(signals[name], dtype=np.float32)
            rounding = None
            if dtype == "float16":
                where = f"{self._entry.cell_type}.signals.{name} on {self._entry.chrom}"
                if not check_range(values, where, faults):
                    continue
                rounding = measure_rounding(values)
            yield name, values.astype(dtype, copy=False), rounding
        faults.raise_if_any(StoreError)


class PartitionWriter(TrackFile):
    """Writes the genes of a cell type on a chromosome to one file of a store, with all that is known of them.

    Args:
        store: folder of the store, or of its staging.
        cell_type: cell type of the genes.
        chrom: chromosome of the genes.
        layout: columns.
    """

    def __init__(self, store: Path, cell_type: str, chrom: str, layout: Layout) -> None:
        super().__init__(store, _empty_entry(cell_type, chrom), layout, layout.schema())

    def write(self, rows: GeneRows) -> dict[str, Rounding]:
        """Write one row group.

        Returns:
            What rounding cost, for each signal stored as float16.

        Raises:
            StoreError: values beyond the range of float16, all such signals together.
        """
        n = len(rows.genes)
        columns: dict[str, Any] = {}
        self._add_values(
            columns,
            {
                "gene_id": pa.array(rows.genes["gene_id"].tolist(), pa.string()),
                "gene_name": pa.array(rows.genes["gene_name"].tolist(), pa.string()),
                "tss": pa.array(rows.genes["tss"].to_numpy(np.int64)),
                "strand": pa.array(rows.genes["strand"].tolist(), pa.string()),
                "label": pa.array(rows.genes["label"].to_numpy(np.float32)),
            },
        )
        if self._layout.n_scalars:
            assert rows.scalars.shape == (n, self._layout.n_scalars), rows.scalars.shape
            self._add_tensor(columns, SCALARS, rows.scalars)
        if self._layout.has_sequence:
            assert rows.sequence is not None
            self._add_track(columns, SEQUENCE, np.ascontiguousarray(rows.sequence, dtype=np.uint8))
        roundings = {}
        for name, values, rounding in self._stored(rows.signals):
            self._add_track(columns, name, values)
            if rounding is not None:
                roundings[name] = rounding
        self._write(columns, n)
        return roundings


class AddedWriter(TrackFile):
    """Writes one more signal of the genes of a partition, in a file of its own.

    Args:
        staging: folder in which the signal is put together.
        cell_type: cell type of the genes.
        chrom: chromosome of the genes.
        signal: name and stored type.
        window_bp: length of the stored window.
    """

    def __init__(self, staging: Path, cell_type: str, chrom: str, signal: tuple[str, Dtype], window_bp: int) -> None:
        layout = Layout(window_bp, (signal,), has_sequence=False, n_scalars=0)
        super().__init__(staging, _empty_entry(cell_type, chrom), layout, layout.track_schema())
        self._signal, _ = signal

    def write(self, gene_ids: list[str], values: NDArray[np.float32]) -> dict[str, Rounding]:
        """Write one row group: the genes of one of the partition's row groups, in its order; values (n, L).

        Returns:
            What rounding cost, where it is stored as float16.

        Raises:
            StoreError: values beyond the range of float16.
        """
        columns: dict[str, Any] = {}
        self._add_values(columns, {"gene_id": pa.array(gene_ids, pa.string())})
        roundings = {}
        for name, stored, rounding in self._stored({self._signal: values}):
            self._add_track(columns, name, stored)
            if rounding is not None:
                roundings[name] = rounding
        self._write(columns, len(gene_ids))
        return roundings


def _empty_entry(cell_type: str, chrom: str) -> FileEntry:
    """Entry of a file that is not yet written."""
    return FileEntry(cell_type=cell_type, chrom=chrom, rows=0, bytes=0, sha256="", footer_sha256="", content_sha256="")


class _ContentDigest:
    """SHA-256 of each column's values, so that neither rings nor row groups nor compression change it."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {}

    def add_values(self, name: str, values: list[Any]) -> None:
        text = "".join(f"{value!r}\n" for value in values)
        self._columns.setdefault(name, hashlib.sha256()).update(text.encode())

    def add_array(self, name: str, values: NDArray[Any]) -> None:
        little_endian = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        self._columns.setdefault(name, hashlib.sha256()).update(little_endian.reshape(-1).view(np.uint8).data)

    def hexdigest(self) -> str:
        """One digest for all columns."""
        text = "".join(f"{name}={self._columns[name].hexdigest()}\n" for name in sorted(self._columns))
        return hashlib.sha256(text.encode()).hexdigest()


def _tensor(values: NDArray[Any], column_type: Any) -> Any:
    """Tensor column of `values`, (n, width)."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.ExtensionArray.from_storage(column_type, storage)
