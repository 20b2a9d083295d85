"""Reading a feature store: exactly the window, signals and genes that are asked for.

N genes, L positions in bp, S signals, K scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from prism_ray.errors import ConfigError, Fault, FaultList, StoreError
from prism_ray.splits import Folds
from prism_ray.store.arrays import GeneArrays
from prism_ray.store.files import PartitionFile, content_fault, size_faults
from prism_ray.store.fill import Filling, opened
from prism_ray.store.place import StorePlace, place_of
from prism_ray.store.projection import Projection, check_genes, check_projection
from prism_ray.store.row_groups import RowGroups
from prism_ray.store.schema import StoreDescription, read_description

CHROM = "chrom"
"""Said by a partition's name, not by a column of its file."""
_NAMING_COLUMNS = ("gene_id", "label")
"""What `load` reads of all genes of a cell type, whichever it is asked for."""
GENE_COLUMNS = ("gene_id", "gene_name", CHROM, "tss", "strand", "label")


def open_store(path: str | StorePlace) -> Store:
    """The store in a folder or in a bucket, checked: finished, of a known schema, with every file present in its size.

    Raises:
        StoreError: everything of that which does not hold, or a bucket that cannot be read.
    """
    store = place_of(path)
    description = read_description(store)
    faults = FaultList()
    faults.extend(size_faults(store, description.all_files))
    faults.raise_if_any(StoreError)
    return Store(store, description)


class Store:
    """A feature store, open for reading. Holds no open file: it can be pickled and shared by threads.

    Attributes:
        path: its folder, or its place in a bucket.
        description: what its `store.json` says.
        digest: SHA-256 of everything in it that decides numbers; the same for a copy elsewhere.
    """

    def __init__(self, path: StorePlace, description: StoreDescription) -> None:
        self.path = path
        self.description = description
        self.digest = description.digest()
        self._identifiers: dict[str, dict[str, NDArray[Any]]] = {}
        self._row_of: dict[str, dict[str, int]] = {}
        self._naming_bytes: dict[str, int] = {}

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
        self._check(self._no_features(cell_type), None, str(self.path)).raise_if_any(ConfigError)
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
        self._check(self._no_features(cell_type), None, str(self.path)).raise_if_any(ConfigError)
        return pd.DataFrame(self._identified(cell_type, GENE_COLUMNS))

    def _no_features(self, cell_type: str) -> Projection:
        return Projection(cell_type, self.window_bp, (), sequence=False, scalars=())

    def _identified(self, cell_type: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Columns that say what the genes of a cell type are, (N,) in store order; each is read once."""
        known = self._identifiers.setdefault(cell_type, {})
        missing = [name for name in names if name not in known]
        if missing:
            known |= self._read_identifiers(cell_type, missing)
        return {name: known[name] for name in names}

    def _read_identifiers(self, cell_type: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
        entries = self.description.files_of(cell_type)
        stored = [name for name in names if name != CHROM]
        tables = []
        for entry in entries if stored else ():
            with PartitionFile(self.path, entry) as file:
                tables.append(file.read([number for number, _, _ in file.row_groups()], stored))
        columns = {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in stored}
        chroms = np.array([entry.chrom for entry in entries], dtype=np.object_)
        return columns | {CHROM: np.repeat(chroms, [entry.rows for entry in entries])}

    def load(
        self,
        window_bp: int,
        signals: Sequence[str],
        cell_type: str,
        genes: Sequence[str] | None = None,
        *,
        sequence: bool = True,
        scalars: Literal["all"] | Sequence[str] = "all",
        spare: GeneArrays | None = None,
        n_threads: int | None = None,
    ) -> GeneArrays:
        """Arrays of genes, cut to a window, for some signals. Reads only the columns that hold them.

        Args:
            window_bp: length of the window in bp, even, at most the stored one.
            signals: names in the order wanted for the last axis; may be empty.
            cell_type: its name.
            genes: gene ids in the order wanted; None for all, in store order.
            sequence: whether DNA is read.
            scalars: `all`, or names in the order wanted; may be empty.
            spare: arrays of an earlier load that nobody needs any more: the answer takes their memory along the
                windows where it has the right width and room for as many genes. Fresh memory is slow to write.
            n_threads: row groups that are decoded at once; None for as many as Arrow would use in this process.

        Raises:
            ConfigError: everything asked for that the store has not.
            StoreError: a file that was read is damaged.
        """
        projection = _projection(window_bp, signals, cell_type, sequence, scalars)
        self._check(projection, genes, str(self.path)).raise_if_any(ConfigError)
        rows = self._rows_asked(cell_type, genes)
        arrays = self._allocated(projection, rows, spare)
        Filling(self.path, self.description, projection, arrays).run(rows, n_threads or pa.cpu_count())
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
        """Compressed bytes of the columns and row groups that `load` of the same reads, once genes are named.

        Raises:
            ConfigError, StoreError: as `load`.
        """
        projection = _projection(window_bp, signals, cell_type, sequence, scalars)
        self._check(projection, genes, str(self.path)).raise_if_any(ConfigError)
        groups = self._row_groups(projection)
        return int(groups.n_bytes.sum()) if genes is None else groups.bytes_of(self._rows_asked(cell_type, genes))

    def naming_bytes(self, cell_type: str) -> int:
        """Compressed bytes of what the first `load` of genes of a cell type reads beside their arrays: ids and labels.

        Raises:
            ConfigError: the store has no such cell type.
            StoreError: a file is damaged.
        """
        self._check(self._no_features(cell_type), None, str(self.path)).raise_if_any(ConfigError)
        if cell_type not in self._naming_bytes:  # asked for with each projection of a plan
            total = 0
            for entry in self.description.files_of(cell_type):
                with PartitionFile(self.path, entry) as file:
                    total += file.compressed_bytes([number for number, _, _ in file.row_groups()], _NAMING_COLUMNS)
            self._naming_bytes[cell_type] = total
        return self._naming_bytes[cell_type]

    def row_groups(
        self,
        window_bp: int,
        signals: Sequence[str],
        cell_type: str,
        *,
        sequence: bool = True,
        scalars: Literal["all"] | Sequence[str] = "all",
    ) -> RowGroups:
        """What `load` of the same reads at a time, by what the files say of themselves.

        Raises:
            ConfigError, StoreError: as `load`.
        """
        projection = _projection(window_bp, signals, cell_type, sequence, scalars)
        self._check(projection, None, str(self.path)).raise_if_any(ConfigError)
        return self._row_groups(projection)

    def _row_groups(self, projection: Projection) -> RowGroups:
        starts, n_bytes = [], []
        first = 0
        for entry in self.description.files_of(projection.cell_type):
            with opened(self.path, self.description, entry, projection) as files:
                for number, start, _ in files[0][0].row_groups():
                    starts.append(first + start)
                    n_bytes.append(sum(file.compressed_bytes([number], names) for file, names in files))
            first += entry.rows
        return RowGroups(np.array(starts, dtype=np.int64), np.array(n_bytes, dtype=np.int64))

    def verify(self) -> None:
        """Hash every file, all bytes.

        Raises:
            StoreError: naming every file that is missing or was changed.
        """
        faults = FaultList()
        faults.extend(fault for e in self.description.all_files if (fault := content_fault(self.path, e)) is not None)
        faults.raise_if_any(StoreError)

    def _check(self, projection: Projection, genes: Sequence[str] | None, where: str) -> FaultList:
        faults = FaultList()
        check_projection(projection, self.description, where, faults)
        if genes is not None and projection.cell_type in self.description.cell_types:
            check_genes(genes, self._rows_by_gene(projection.cell_type), where, faults)
        return faults

    def _rows_by_gene(self, cell_type: str) -> dict[str, int]:
        """Store row of each gene of a cell type, by its id."""
        if cell_type not in self._row_of:
            ids = self._identified(cell_type, _NAMING_COLUMNS)["gene_id"]
            self._row_of[cell_type] = dict(zip(ids, range(len(ids)), strict=True))
        return self._row_of[cell_type]

    def _rows_asked(self, cell_type: str, genes: Sequence[str] | None) -> NDArray[np.int64]:
        """Store rows of the genes asked for, in their order."""
        if genes is None:
            return np.arange(sum(entry.rows for entry in self.description.files_of(cell_type)), dtype=np.int64)
        row_of = self._rows_by_gene(cell_type)
        return np.array([row_of[gene] for gene in genes], dtype=np.int64)

    def _allocated(self, projection: Projection, rows: NDArray[np.int64], spare: GeneArrays | None) -> GeneArrays:
        """Arrays of the genes in some store rows, of the shapes asked for; `Filling` writes every row of the inputs."""
        genes = self._identified(projection.cell_type, (*_NAMING_COLUMNS, CHROM))
        n, length = len(rows), projection.window_bp
        scalar_names = projection.scalar_names(self.description)
        sequence = None
        if projection.sequence:
            sequence = _room(None if spare is None else spare.sequence, (n, length), np.dtype(np.uint8))
        signals_shape = (n, length, len(projection.signals))
        signals = _room(None if spare is None else spare.signals, signals_shape, np.dtype(np.float32))
        return GeneArrays(
            gene_id=genes["gene_id"][rows].astype(np.str_),
            chrom=genes[CHROM][rows].astype(np.str_),
            sequence=sequence,
            signals=signals,
            scalars=np.empty((n, len(scalar_names)), np.float32),
            label=genes["label"][rows].astype(np.float32, copy=False),
            signal_names=projection.signals,
            scalar_names=scalar_names,
            window_bp=length,
        )


def _room(spare: NDArray[Any] | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The first rows of `spare` where it has the shape but for more rows; else memory of its own."""
    if spare is not None and spare.shape[1:] == shape[1:] and len(spare) >= shape[0]:
        return spare[: shape[0]]
    return np.empty(shape, dtype)


def _projection(
    window_bp: int,
    signals: Sequence[str],
    cell_type: str,
    sequence: bool,
    scalars: Literal["all"] | Sequence[str],
) -> Projection:
    wanted: Literal["all"] | tuple[str, ...] = "all" if scalars == "all" else tuple(scalars)
    return Projection(cell_type, window_bp, tuple(signals), sequence, wanted)
