"""Reading a feature store: exactly the window, signals and genes that are asked for.

N genes, L positions in bp, S signals, K scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.errors import ConfigError, Fault, FaultList, StoreError
from prism_ray.splits import Folds
from prism_ray.store.arrays import GeneArrays
from prism_ray.store.files import PartitionFile, content_fault, size_fault, tensor_to_numpy
from prism_ray.store.projection import SCALARS, Projection, check_genes, check_projection
from prism_ray.store.rings import SEQUENCE, place_ring, rings_touched
from prism_ray.store.schema import FileEntry, StoreDescription, read_description

IDENTIFIERS = ("gene_id", "gene_name", "tss", "strand", "label")


def open_store(path: str | Path) -> Store:
    """The store in a folder, checked: finished, of a known schema, with every file present in its size.

    Raises:
        StoreError: everything of that which does not hold.
    """
    store = Path(path)
    description = read_description(store)
    faults = FaultList()
    faults.extend(fault for entry in description.files if (fault := size_fault(store, entry)) is not None)
    faults.raise_if_any(StoreError)
    return Store(store, description)


class Store:
    """A feature store, open for reading. Holds no open file: it can be pickled and shared by threads.

    Attributes:
        path: its folder.
        description: what its `store.json` says.
        digest: SHA-256 of everything in it that decides numbers; the same for a copy elsewhere.
    """

    def __init__(self, path: Path, description: StoreDescription) -> None:
        self.path = path
        self.description = description
        self.digest = description.digest()
        self._genes: dict[str, pd.DataFrame] = {}

    @property
    def folds(self) -> Folds:
        """Leave-chromosome-out folds."""
        return Folds(self.description.folds)

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that any cell type has, in the catalog's order."""
        return self.description.signal_names

    def signals_of(self, cell_type: str) -> tuple[str, ...]:
        """Names of the signals of one cell type, in the same order.

        Raises:
            ConfigError: the store has no such cell type.
        """
        self._check(self._identifiers(cell_type), None, str(self.path)).raise_if_any(ConfigError)
        return tuple(self.description.cell_types[cell_type].sources)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Names of the scalar features."""
        return self.description.scalar_names

    @property
    def window_bp(self) -> int:
        """Length of the stored window in bp."""
        return self.description.window_bp

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Names of the cell types."""
        return tuple(self.description.cell_types)

    @property
    def has_sequence(self) -> bool:
        """Whether the store has DNA."""
        return self.description.has_sequence

    def genes(self, cell_type: str) -> pd.DataFrame:
        """Genes of a cell type in store order: by chromosome (chr2 before chr10), TSS, then gene id.

        Returns:
            Columns gene_id, gene_name, chrom, tss (int64, 0-based), strand, label (float32, transformed).

        Raises:
            ConfigError: the store has no such cell type.
            StoreError: a file is damaged.
        """
        self._check(self._identifiers(cell_type), None, str(self.path)).raise_if_any(ConfigError)
        return self._gene_table(cell_type).copy()

    def _identifiers(self, cell_type: str) -> Projection:
        return Projection(cell_type, self.window_bp, (), sequence=False, scalars=())

    def _gene_table(self, cell_type: str) -> pd.DataFrame:
        if cell_type not in self._genes:
            parts = [self._genes_of_file(entry) for entry in self.description.files_of(cell_type)]
            self._genes[cell_type] = pd.concat(parts, ignore_index=True)
        return self._genes[cell_type]

    def _genes_of_file(self, entry: FileEntry) -> pd.DataFrame:
        with PartitionFile(self.path, entry) as file:
            table = file.read([number for number, _, _ in file.row_groups()], IDENTIFIERS)
        columns: dict[str, Any] = {name: table[name].to_numpy() for name in ("gene_id", "gene_name")}
        columns["chrom"] = entry.chrom
        columns |= {name: table[name].to_numpy() for name in ("tss", "strand", "label")}
        return pd.DataFrame(columns)

    def load(
        self,
        window_bp: int,
        signals: Sequence[str],
        cell_type: str,
        genes: Sequence[str] | None = None,
        *,
        sequence: bool = True,
        scalars: Literal["all"] | Sequence[str] = "all",
    ) -> GeneArrays:
        """Arrays of genes, cut to a window, for some signals. Reads only the columns that hold them.

        Args:
            window_bp: length of the window in bp, even, at most the stored one.
            signals: names in the order wanted for the last axis; may be empty.
            cell_type: its name.
            genes: gene ids in the order wanted; None for all, in store order.
            sequence: whether DNA is read.
            scalars: `all`, or names in the order wanted; may be empty.

        Raises:
            ConfigError: everything asked for that the store has not.
            StoreError: a file that was read is damaged.
        """
        projection = _projection(window_bp, signals, cell_type, sequence, scalars)
        self._check(projection, genes, str(self.path)).raise_if_any(ConfigError)
        table = self._gene_table(cell_type)
        rows = _rows_asked(table, genes)
        arrays = self._allocated(projection, table.iloc[rows])
        for entry, first, order in self._rows_by_file(cell_type, rows):
            with PartitionFile(self.path, entry) as file:
                for number, start, end in file.row_groups():
                    # Places in the answer whose gene lies in this row group, and where in the group it lies.
                    places = order[(rows[order] >= first + start) & (rows[order] < first + end)]
                    if len(places):
                        group = file.read([number], projection.columns(self.description))
                        self._fill(arrays, group, projection, places, rows[places] - first - start)
        return arrays

    def faults(
        self,
        window_bp: int,
        signals: Sequence[str],
        cell_type: str,
        genes: Sequence[str] | None = None,
        *,
        sequence: bool = True,
        scalars: Literal["all"] | Sequence[str] = "all",
        where: str | None = None,
    ) -> tuple[Fault, ...]:
        """Everything that `load` of the same would refuse, without loading: for checks before a study starts.

        `where` is the place of the request, for messages; the store's folder if not given.
        """
        projection = _projection(window_bp, signals, cell_type, sequence, scalars)
        return self._check(projection, genes, where or str(self.path)).faults

    def bytes_to_read(
        self,
        window_bp: int,
        signals: Sequence[str],
        cell_type: str,
        genes: Sequence[str] | None = None,
        *,
        sequence: bool = True,
        scalars: Literal["all"] | Sequence[str] = "all",
    ) -> int:
        """Compressed bytes of the columns and row groups that `load` of the same reads.

        Raises:
            ConfigError, StoreError: as `load`.
        """
        projection = _projection(window_bp, signals, cell_type, sequence, scalars)
        self._check(projection, genes, str(self.path)).raise_if_any(ConfigError)
        rows = _rows_asked(self._gene_table(cell_type), genes)
        columns = projection.columns(self.description)
        total = 0
        for entry, first, order in self._rows_by_file(cell_type, rows):
            inside = rows[order] - first
            with PartitionFile(self.path, entry) as file:
                groups = [n for n, start, end in file.row_groups() if ((inside >= start) & (inside < end)).any()]
                total += file.compressed_bytes(groups, columns)
        return total

    def verify(self) -> None:
        """Hash every file, all bytes.

        Raises:
            StoreError: naming every file that is missing or was changed.
        """
        faults = FaultList()
        faults.extend(fault for e in self.description.files if (fault := content_fault(self.path, e)) is not None)
        faults.raise_if_any(StoreError)

    def _check(self, projection: Projection, genes: Sequence[str] | None, where: str) -> FaultList:
        faults = FaultList()
        check_projection(projection, self.description, where, faults)
        if genes is not None and projection.cell_type in self.description.cell_types:
            known = self._gene_table(projection.cell_type)["gene_id"]
            check_genes(genes, dict(zip(known, range(len(known)), strict=True)), where, faults)
        return faults

    def _rows_by_file(self, cell_type: str, rows: NDArray[np.int64]) -> list[tuple[FileEntry, int, NDArray[np.int64]]]:
        """Files with wanted genes: entry, store row of its first gene, places in the answer of its genes."""
        found = []
        first = 0
        for entry in self.description.files_of(cell_type):
            places = np.flatnonzero((rows >= first) & (rows < first + entry.rows))
            if len(places):
                found.append((entry, first, places))
            first += entry.rows
        return found

    def _allocated(self, projection: Projection, genes: pd.DataFrame) -> GeneArrays:
        """Arrays of the shapes asked for; `_fill` writes every row of the inputs."""
        n, length = len(genes), projection.window_bp
        scalar_names = projection.scalar_names(self.description)
        return GeneArrays(
            gene_id=genes["gene_id"].to_numpy().astype(np.str_),
            chrom=genes["chrom"].to_numpy().astype(np.str_),
            sequence=np.empty((n, length), np.uint8) if projection.sequence else None,
            signals=np.empty((n, length, len(projection.signals)), np.float32),
            scalars=np.empty((n, len(scalar_names)), np.float32),
            label=genes["label"].to_numpy(dtype=np.float32, copy=True),
            signal_names=projection.signals,
            scalar_names=scalar_names,
            window_bp=length,
        )

    def _fill(
        self,
        arrays: GeneArrays,
        group: Any,
        projection: Projection,
        places: NDArray[np.int64],
        inside: NDArray[np.int64],
    ) -> None:
        """Copy rows `inside` of a row group's table to rows `places` of the answer."""
        taken, put = _as_slice(inside), _as_slice(places)
        for ring in rings_touched(self.description.ring_bounds, projection.window_bp):
            if arrays.sequence is not None:
                column = tensor_to_numpy(group[ring.column(SEQUENCE)])
                place_ring(column[taken], ring, arrays.sequence, put)
            for index, name in enumerate(projection.signals):
                column = tensor_to_numpy(group[ring.column(name)])[taken].astype(np.float32, copy=False)
                place_ring(column, ring, arrays.signals[:, :, index], put)
        if arrays.scalar_names:
            chosen = [self.description.scalar_names.index(name) for name in arrays.scalar_names]
            arrays.scalars[put] = tensor_to_numpy(group[SCALARS])[taken][:, chosen]


def _projection(
    window_bp: int,
    signals: Sequence[str],
    cell_type: str,
    sequence: bool,
    scalars: Literal["all"] | Sequence[str],
) -> Projection:
    wanted: Literal["all"] | tuple[str, ...] = "all" if scalars == "all" else tuple(scalars)
    return Projection(cell_type, window_bp, tuple(signals), sequence, wanted)


def _as_slice(rows: NDArray[np.int64]) -> NDArray[np.int64] | slice:
    """A slice where row numbers are consecutive, which saves a copy; else the numbers themselves."""
    start, n = int(rows[0]), len(rows)
    return slice(start, start + n) if np.array_equal(rows, np.arange(start, start + n)) else rows


def _rows_asked(table: pd.DataFrame, genes: Sequence[str] | None) -> NDArray[np.int64]:
    """Store rows of the genes asked for, in their order."""
    if genes is None:
        return np.arange(len(table), dtype=np.int64)
    row_of = dict(zip(table["gene_id"], range(len(table)), strict=True))
    return np.array([row_of[gene] for gene in genes], dtype=np.int64)
