"""Labels (measured expression) and scalar features of genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.errors import FaultList
from prism_ray.features.cage import check_tracks, read_cage
from prism_ray.features.source_parts import LabelBigWig, LabelTable, ScalarSource
from prism_ray.features.sources import Catalog, CellType
from prism_ray.features.tables import counted, counted_genes, numbers, read_table
from prism_ray.features.transforms import transformed


@dataclass(frozen=True)
class CellTypeData:
    """Genes of one cell type with what is known about each.

    Attributes:
        genes: gene_id, gene_name, chrom, tss (int64, 0-based), strand, label (float32, transformed); sorted by
            chromosome in natural order, tss and gene_id; index 0..N-1.
        scalars: (N, K) float32.
        scalar_names: K names.
        n_dropped: genes without a label, where the catalog says to drop them.
    """

    genes: pd.DataFrame
    scalars: NDArray[np.float32]
    scalar_names: tuple[str, ...]
    n_dropped: int


def read_cell_type(
    catalog: Catalog, cell: CellType, genes: pd.DataFrame, where: str, faults: FaultList
) -> CellTypeData | None:
    """Genes with labels and scalars; None where there are faults.

    Args:
        catalog: resolves the paths of the files.
        cell: the cell type.
        genes: what `read_genes` gives.
        where: place of the cell type in the catalog.
        faults: takes what is wrong in the files.
    """
    before = len(faults)
    label = _read_label(catalog, cell.label, genes, f"{where}.label", faults)
    kept = np.ones(len(genes), dtype=np.bool_) if label is None else ~np.isnan(label)
    with_label = genes[kept].reset_index(drop=True)
    scalars = np.zeros((len(with_label), 0), dtype=np.float32)
    if cell.scalars is not None:
        scalars = _read_scalars(catalog, cell.scalars, with_label, f"{where}.scalars", faults)
    if label is None or len(faults) > before:
        return None
    with_label["label"] = label[kept].astype(np.float32)
    names = cell.scalars.columns if cell.scalars is not None else ()
    return CellTypeData(with_label, scalars, names, int((~kept).sum()))


def check_cell_files(catalog: Catalog, cell: CellType, where: str, faults: FaultList) -> None:
    """Add what is wrong with the files of a cell type's label and scalars, as far as that is seen without genes.

    Args:
        catalog: resolves the paths of the files.
        cell: the cell type.
        where: place of the cell type in the catalog.
        faults: takes what is wrong in the files.
    """
    if isinstance(cell.label, LabelBigWig):
        check_tracks(catalog, cell.label, f"{where}.label", faults)
    else:
        label = cell.label
        _rows_by_gene(catalog, label.table, label.gene_id, (label.column,), f"{where}.label", faults)
    if cell.scalars is not None:
        scalars = cell.scalars
        _rows_by_gene(catalog, scalars.table, scalars.gene_id, scalars.columns, f"{where}.scalars", faults)


def _read_label(
    catalog: Catalog, source: LabelTable | LabelBigWig, genes: pd.DataFrame, where: str, faults: FaultList
) -> NDArray[np.float64] | None:
    """Transformed label of each gene, (N,) float64; NaN only where the catalog drops genes without one."""
    if isinstance(source, LabelBigWig):
        return read_cage(catalog, source, genes, where, faults)
    rows = _rows_by_gene(catalog, source.table, source.gene_id, (source.column,), where, faults)
    if rows is None:
        return None
    before = len(faults)
    place = f"{where}: {source.table}, column {source.column}"
    column = rows[source.column].reset_index(drop=True)
    by_gene = pd.Series(numbers(column, "the label", place, faults), index=rows.index)
    label = by_gene.reindex(genes["gene_id"]).to_numpy(dtype=np.float64)
    missing = np.isnan(label)
    if missing.all():
        faults.add(
            place,
            "no gene of the gene table has a label",
            f"gene ids there look like {genes['gene_id'].iloc[0]!r}, here like {rows.index[0]!r}",
        )
    elif missing.any() and source.missing == "refuse" and len(faults) == before:
        faults.add(
            place, counted_genes(missing, "there is no label", genes["gene_id"]), "add them, or set missing: drop"
        )
    negative = label < 0
    if source.transform == "log10p1" and negative.any():
        faults.add(place, counted_genes(negative, "the label is under 0, which log10p1 cannot take", genes["gene_id"]))
    if len(faults) > before:
        return None
    return transformed(label, source.transform)


def _read_scalars(
    catalog: Catalog, source: ScalarSource, genes: pd.DataFrame, where: str, faults: FaultList
) -> NDArray[np.float32]:
    """Scalars of each gene, (N, K) float32; of no use where faults were added."""
    values = np.zeros((len(genes), len(source.columns)), dtype=np.float32)
    rows = _rows_by_gene(catalog, source.table, source.gene_id, source.columns, where, faults)
    if rows is None:
        return values
    lost = ~genes["gene_id"].isin(rows.index).to_numpy(dtype=np.bool_)
    if lost.any():
        faults.add(f"{where}: {source.table}", counted_genes(lost, "there is no row for the gene", genes["gene_id"]))
        return values
    order = rows.index.get_indexer(pd.Index(genes["gene_id"]))
    wanted = rows.iloc[order].set_index(pd.Index(order))  # the table's row numbers, for messages
    for position, name in enumerate(source.columns):
        place = f"{where}: {source.table}, column {name}"
        before = len(faults)
        column = numbers(wanted[name], name, place, faults)
        missing = np.isnan(column)
        if missing.any() and len(faults) == before:
            faults.add(
                place,
                counted_genes(missing, "there is no value", genes["gene_id"]),
                "a model needs every scalar of every gene",
            )
        values[:, position] = column
    return values


def _rows_by_gene(
    catalog: Catalog, table: str, gene_id: str, columns: tuple[str, ...], where: str, faults: FaultList
) -> pd.DataFrame | None:
    """Columns of a table as text, by gene; None where there are faults."""
    rows = read_table(catalog.resolve(table), (gene_id, *columns), where, faults)
    if rows is None:
        return None
    ids = rows[gene_id].str.strip()
    twice = ids.duplicated(keep=False).to_numpy(dtype=np.bool_)
    if twice.any():
        faults.add(f"{where}: {table}", counted(twice, f"{gene_id} is not unique", ids), "keep one row a gene")
        return None
    return rows[list(columns)].set_index(pd.Index(ids))
