"""Writing one Parquet file of a store: the genes of a cell type on a chromosome, row group by row group.

n genes of a row group, L positions in bp, K scalars.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prism_ray.errors import FaultList, StoreError
from prism_ray.store.files import sha256_of_file, sha256_of_footer
from prism_ray.store.precision import Rounding, check_range, measure_rounding
from prism_ray.store.projection import SCALARS
from prism_ray.store.rings import SEQUENCE, Ring, cut_ring, ring_bounds, rings_of
from prism_ray.store.schema import Dtype, FileEntry

_ROW_GROUP_BYTES = 64 << 20
_FEWEST_ROWS, _MOST_ROWS = 64, 256
UNFINISHED = ".writing"
"""End of the name of a file that is being written."""
_ARROW_TYPES = {"float32": pa.float32(), "float16": pa.float16(), "uint8": pa.uint8()}


@dataclass(frozen=True)
class Layout:
    """Columns of every file of a store.

    Attributes:
        window_bp: length of the stored window, L.
        signals: name and stored type of each signal, in order.
        has_sequence: whether there is DNA.
        n_scalars: K; there is no column for them where 0.
    """

    window_bp: int
    signals: tuple[tuple[str, Dtype], ...]
    has_sequence: bool
    n_scalars: int

    @property
    def rings(self) -> tuple[Ring, ...]:
        """Rings of the window, inner first."""
        return rings_of(ring_bounds(self.window_bp))

    @property
    def row_group_rows(self) -> int:
        """Genes a row group: 64 to 256, as many as fit in 64 MiB."""
        widths = [np.dtype(dtype).itemsize for _, dtype in self.signals] + [1] * self.has_sequence
        row_bytes = max(1, self.window_bp * sum(widths))
        return max(_FEWEST_ROWS, min(_MOST_ROWS, _ROW_GROUP_BYTES // row_bytes))

    def row_groups(self, n_genes: int) -> Iterator[slice]:
        """Rows of each row group of a file of `n_genes`."""
        for start in range(0, n_genes, self.row_group_rows):
            yield slice(start, min(start + self.row_group_rows, n_genes))

    def schema(self) -> Any:
        """Arrow schema of a file."""
        fields = [
            pa.field("gene_id", pa.string()),
            pa.field("gene_name", pa.string()),
            pa.field("tss", pa.int64()),
            pa.field("strand", pa.string()),
            pa.field("label", pa.float32()),
        ]
        if self.n_scalars:
            fields.append(pa.field(SCALARS, pa.fixed_shape_tensor(pa.float32(), (self.n_scalars,))))
        for name, dtype in self._tracks():
            for ring in self.rings:
                tensor = pa.fixed_shape_tensor(_ARROW_TYPES[dtype], (ring.width,))
                fields.append(pa.field(ring.column(name), tensor))
        return pa.schema(fields)

    def _tracks(self) -> list[tuple[str, str]]:
        return [(SEQUENCE, "uint8")] * self.has_sequence + [(name, dtype) for name, dtype in self.signals]


@dataclass(frozen=True)
class GeneRows:
    """Genes of one row group, sorted by TSS and gene id.

    Attributes:
        genes: columns gene_id, gene_name, tss (0-based), strand, label (transformed).
        scalars: (n, K) float32.
        sequence: (n, L) uint8, A C G T N = 0 1 2 3 4; None where the store has no DNA.
        signals: (n, L) float32 by name, transformed.
    """

    genes: pd.DataFrame
    scalars: NDArray[np.float32]
    sequence: NDArray[np.uint8] | None
    signals: Mapping[str, NDArray[np.float32]]


class PartitionWriter:
    """Writes the genes of a cell type on a chromosome to one file. Use as a context manager, then call `close`.

    The file has a temporary name until it is closed, so a file of the final name is whole.

    Args:
        store: folder of the store, or of its staging.
        cell_type: cell type of the genes.
        chrom: chromosome of the genes.
        layout: columns.
    """

    def __init__(self, store: Path, cell_type: str, chrom: str, layout: Layout) -> None:
        self._entry = FileEntry(
            cell_type=cell_type, chrom=chrom, rows=0, bytes=0, sha256="", footer_sha256="", content_sha256=""
        )
        self._path = store / self._entry.path
        # A worker that outlives a killed build may still write the same partition: to a file of its own.
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}{UNFINISHED}")
        self._layout = layout
        self._schema = layout.schema()
        self._content = _ContentDigest()
        self._rows = 0
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self._temporary,
            self._schema,
            compression="zstd",
            write_page_checksum=True,
            # Smallest and largest value of a tensor's elements help no reader.
            write_statistics=["gene_id", "tss"],
        )

    def __enter__(self) -> PartitionWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer.is_open:
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, rows: GeneRows) -> dict[str, Rounding]:
        """Write one row group.

        Returns:
            What rounding cost, for each signal stored as float16.

        Raises:
            StoreError: values beyond the range of float16, all such signals together.
        """
        n, length = len(rows.genes), self._layout.window_bp
        tracks, rounding = self._stored(rows)
        columns: dict[str, Any] = {
            "gene_id": pa.array(rows.genes["gene_id"].tolist(), pa.string()),
            "gene_name": pa.array(rows.genes["gene_name"].tolist(), pa.string()),
            "tss": pa.array(rows.genes["tss"].to_numpy(np.int64)),
            "strand": pa.array(rows.genes["strand"].tolist(), pa.string()),
            "label": pa.array(rows.genes["label"].to_numpy(np.float32)),
        }
        for name, column in columns.items():
            self._content.add_values(name, column.to_pylist())
        if self._layout.n_scalars:
            assert rows.scalars.shape == (n, self._layout.n_scalars), rows.scalars.shape
            columns[SCALARS] = _tensor(rows.scalars, self._schema.field(SCALARS).type)
            self._content.add_array(SCALARS, rows.scalars)
        for name, values in tracks.items():
            assert values.shape == (n, length), (name, values.shape)
            self._content.add_array(name, values)
            for ring in self._layout.rings:
                column_type = self._schema.field(ring.column(name)).type
                columns[ring.column(name)] = _tensor(cut_ring(values, ring), column_type)
        self._writer.write_table(pa.table(columns, schema=self._schema), row_group_size=max(1, n))
        self._rows += n
        return rounding

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

    def _stored(self, rows: GeneRows) -> tuple[dict[str, NDArray[Any]], dict[str, Rounding]]:
        """DNA and signals in the type that they are stored in, and what rounding cost."""
        tracks: dict[str, NDArray[Any]] = {}
        if self._layout.has_sequence:
            assert rows.sequence is not None
            tracks[SEQUENCE] = np.ascontiguousarray(rows.sequence, dtype=np.uint8)
        faults = FaultList()
        rounding: dict[str, Rounding] = {}
        for name, dtype in self._layout.signals:
            values = np.ascontiguousarray(rows.signals[name], dtype=np.float32)
            if dtype == "float16":
                where = f"{self._entry.cell_type}.signals.{name} on {self._entry.chrom}"
                if not check_range(values, where, faults):
                    continue
                rounding[name] = measure_rounding(values)
            tracks[name] = values.astype(dtype)
        faults.raise_if_any(StoreError)
        return tracks, rounding


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
