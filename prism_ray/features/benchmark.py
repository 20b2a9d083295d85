"""Catalog of the published benchmark (the data set `xingyusu/GeneExp`), from its files as its users have them.

Read are, below the data set's folder:
    hg38/hg38.ml.fa, chr_length.json (chromosome -> bp, or assembly -> that)
    promo_enhan_inter/{H3K27ac,DNase-seq}/<cell>/<accession>.bigWig
    promo_enhan_inter/HiC/<cell>/hic_feat_<chrom>.h5
    promo_enhan_inter/GM12878_K562_18377_gene_expr_fromXpresso.csv: the genes, their labels and eight of nine scalars
    promo_enhan_inter/leave_chrom_out_crossvalidation_split_18377genes.csv: symbols, and a role a gene and fold
    promo_enhan_inter/<cell>_.../GeneList.txt, at any depth: position and promoter activity a symbol

The data set states no strand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from prism_ray.errors import CatalogError, FaultList, did_you_mean
from prism_ray.features.benchmark_files import refuse_existing, write_new_files
from prism_ray.features.benchmark_tables import (
    INTERACTIONS,
    SEQUENCE_SCALARS,
    agreed_places,
    chromosome_folds,
    find_gene_list,
    read_expression,
    read_gene_list,
    read_split,
    read_symbols,
)
from prism_ray.features.gene_windows import GeneWindowReader
from prism_ray.features.genes import natural_order
from prism_ray.features.sequence import ensure_index
from prism_ray.features.tables import counted_genes

ASSEMBLY = "hg38"
WINDOW_BP = 2000
FASTA = Path("hg38", "hg38.ml.fa")
LENGTHS = Path("chr_length.json")
HIC_FILE = "hic_feat_{chrom}.h5"
TRACKS = {"h3k27ac": ("H3K27ac", "foreground"), "dnase": ("DNase-seq", "background")}
SCALARS = (*SEQUENCE_SCALARS, "promoter_activity")
LABELS = {"cage": ("{cell}_CAGE_128*3_sum", "log10p1"), "rna": ("Actual_{cell}", "none")}
"""Column of the expression table and transform, by label; RNA levels there are logarithms already."""

_CELL_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
_BIGWIG_SUFFIXES = (".bigwig", ".bw")

Label = Literal["cage", "rna"]


@dataclass(frozen=True)
class _Cell:
    """What was found of one cell type.

    Attributes:
        tracks: bigWig file by name of the signal.
        places: what `read_gene_list` gives.
    """

    tracks: dict[str, Path]
    places: pd.DataFrame | None


@dataclass(frozen=True)
class BenchmarkSummary:
    """What a catalog of the benchmark holds.

    Attributes:
        catalog: the catalog file.
        n_genes: genes, of each cell type.
        chroms: chromosomes with genes, in natural order.
        folds: names of the folds.
        cell_types: names of the cell types.
    """

    catalog: Path
    n_genes: int
    chroms: tuple[str, ...]
    folds: tuple[str, ...]
    cell_types: tuple[str, ...]


def write_benchmark_catalog(
    folder: Path, cell_types: Sequence[str], out: Path, label: Label = "cage"
) -> BenchmarkSummary:
    """Write a catalog of the published benchmark, and the tables that it names beside it.

    Args:
        folder: the data set's folder.
        cell_types: names of cell types, as the data set has them.
        out: catalog to write, `<name>.yaml`; the tables are `<name>_genes.tsv`, `<name>_folds.tsv` and
            `<name>_<cell>_expression.tsv`.
        label: `cage`, log10(1 + CAGE around the TSS), or `rna`, RNA-seq levels as the data set has them.

    Raises:
        CatalogError: every fault of the files; nothing is written then.
    """
    faults = FaultList()
    files = _output_files(out, cell_types)
    _check_arguments(folder, cell_types, out, files, faults)
    faults.raise_if_any(CatalogError)
    columns = {name: LABELS[label][0].format(cell=name) for name in cell_types}
    expression = read_expression(folder, list(columns.values()), faults)
    split = read_split(folder, faults)
    symbols = None if expression is None or split is None else read_symbols(folder, expression, split, faults)
    cells = {name: _read_cell(folder, name, symbols, faults) for name in cell_types}
    known = {name: cell.places for name, cell in cells.items() if cell.places is not None}
    places = agreed_places(known, faults) if known else None
    folds = None
    if places is not None and split is not None:
        folds = chromosome_folds(folder, split.loc[places.index], places["chrom"], faults)
        for name in cell_types:
            _check_hic(folder, name, places, faults)
    _check_lengths(folder, [] if places is None else list(places["chrom"]), faults)
    faults.raise_if_any(CatalogError)
    assert expression is not None
    assert symbols is not None
    assert places is not None
    assert folds is not None
    texts = {files["genes"]: _tsv(_gene_table(places, symbols))}
    for name, column in columns.items():
        activity = [repr(float(value)) for value in known[name]["promoter_activity"]]
        table = expression[[column, *SEQUENCE_SCALARS]].assign(promoter_activity=activity)
        texts[files[f"{name}_expression"]] = _tsv(table.reset_index())
    texts[files["folds"]] = _tsv(folds.rename_axis("chrom").reset_index())
    texts[out] = _catalog_text(folder, cells, files, out, label)
    write_new_files(texts)
    chroms = tuple(natural_order(places["chrom"]))
    return BenchmarkSummary(out, len(places), chroms, tuple(map(str, folds.columns)), tuple(cell_types))


def _output_files(out: Path, cell_types: Sequence[str]) -> dict[str, Path]:
    """Tables beside the catalog, by what their names end in: of the genes, of the folds and of each cell type."""
    names = ("genes", "folds", *(f"{name}_expression" for name in cell_types))
    return {name: out.parent / f"{out.stem}_{name}.tsv" for name in names}


def _check_arguments(
    folder: Path, cell_types: Sequence[str], out: Path, files: Mapping[str, Path], faults: FaultList
) -> None:
    if out.suffix not in (".yaml", ".yml"):
        faults.add(str(out), "is no name of a catalog", "name it catalog.yaml, for example")
    refuse_existing([out, *files.values()], faults)
    for name in dict.fromkeys(cell_types):
        if not _CELL_NAME.match(name):
            faults.add("cell types", f"{name!r} is no name of one", "use one of the data set, K562 for example")
        if list(cell_types).count(name) > 1:
            faults.add("cell types", f"{name} is given twice", "give each once")
    if not folder.is_dir():
        faults.add(str(folder), "is not a folder", "give the folder of the data set xingyusu/GeneExp")


def _read_cell(folder: Path, name: str, symbols: pd.Series[str] | None, faults: FaultList) -> _Cell:
    found = {signal: _bigwig(folder, assay, name, faults) for signal, (assay, _) in TRACKS.items()}
    gene_list = find_gene_list(folder, name, faults)
    places = None if gene_list is None or symbols is None else read_gene_list(gene_list, symbols, faults)
    return _Cell({signal: path for signal, path in found.items() if path is not None}, places)


def _bigwig(folder: Path, assay: str, cell: str, faults: FaultList) -> Path | None:
    """The only bigWig of an assay and cell type."""
    home = folder / INTERACTIONS / assay / cell
    if not home.is_dir():
        known = [path.name for path in home.parent.iterdir() if path.is_dir()] if home.parent.is_dir() else []
        fix = did_you_mean(cell, known) if known else "give the folder of the data set xingyusu/GeneExp"
        faults.add(str(home), f"no such folder: no {assay} of {cell!r}", fix)
        return None
    found = sorted(path for path in home.iterdir() if path.suffix.lower() in _BIGWIG_SUFFIXES)
    if len(found) != 1:
        listed = f" ({', '.join(path.name for path in found)})" if found else ""
        faults.add(str(home), f"holds {len(found)} bigWig files{listed}", "keep exactly one, named by its accession")
        return None
    return found[0]


def _check_lengths(folder: Path, gene_chroms: Collection[str], faults: FaultList) -> None:
    """Compare chr_length.json with the index of the FASTA, which is made where there is none."""
    sizes: dict[str, int] = {}
    try:
        if not (folder / FASTA).is_file():
            faults.add(str(folder / FASTA), "no such file", "give the folder of the data set xingyusu/GeneExp")
        else:
            sizes = ensure_index(folder / FASTA)
    except CatalogError as error:
        faults.extend(error.faults)
    stated = _read_lengths(folder / LENGTHS, faults)
    if not sizes or stated is None:
        return
    for name in natural_order([*gene_chroms, *stated]):
        if name in sizes and name in stated:
            if sizes[name] != stated[name]:
                problem = f"{name} has {stated[name]} bp here and {sizes[name]} bp in {FASTA}"
                faults.add(str(folder / LENGTHS), problem, "use files of one assembly")
        elif name in gene_chroms:
            lacking = folder / (LENGTHS if name in sizes else FASTA)
            faults.add(str(lacking), f"has no {name}, where there are genes", "give that of the data set")


def _read_lengths(path: Path, faults: FaultList) -> dict[str, int] | None:
    fix = 'write {"chr1": 248956422, ...}'
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        faults.add(str(path), f"cannot be read as JSON ({error})", fix)
        return None
    if isinstance(content, dict) and isinstance(content.get(ASSEMBLY), dict):
        content = content[ASSEMBLY]
    if not isinstance(content, dict) or not all(type(size) is int for size in content.values()):
        faults.add(str(path), "is not lengths by chromosome", fix)
        return None
    return content


def _check_hic(folder: Path, cell: str, places: pd.DataFrame, faults: FaultList) -> None:
    """Every gene needs its data set."""
    path = folder / INTERACTIONS / "HiC" / cell / HIC_FILE
    try:
        with GeneWindowReader(path, "none") as reader:
            held = np.zeros(len(places), dtype=np.bool_)
            for chrom, rows in places.groupby("chrom").indices.items():
                held[rows] = reader.holds(str(chrom), places["tss"].to_numpy()[rows])
    except CatalogError as error:
        faults.extend(error.faults)
        return
    if not held.all():
        shown = places["chrom"] + "_" + places["tss"].astype(str)
        faults.add(str(path), counted_genes(~held, "there is no data set for the gene", shown), "fetch the files again")


def _gene_table(places: pd.DataFrame, symbols: pd.Series[str]) -> pd.DataFrame:
    table = places.assign(gene_name=symbols).rename_axis("gene_id").reset_index()
    return table[["gene_id", "gene_name", "chrom", "tss"]]


def _tsv(table: pd.DataFrame) -> str:
    return table.to_csv(sep="\t", index=False, lineterminator="\n")


def _catalog_text(folder: Path, cells: Mapping[str, _Cell], files: Mapping[str, Path], out: Path, label: Label) -> str:
    """The catalog; paths are from where it lies."""
    home = os.path.realpath(out.parent)

    def place(path: Path) -> str:
        return _quoted(os.path.relpath(os.path.abspath(path), home))

    column, transform = LABELS[label]
    lines = [
        "# The published benchmark; made by `prism-ray catalog from-geneexp`.",
        "schema: 1",
        "name: geneexp",
        f"assembly: {ASSEMBLY}",
        f"sequence: {{fasta: {place(folder / FASTA)}}}",
        f"genes: {{table: {_quoted(files['genes'].name)}, columns: {{strand: null}}}}",
        f"folds: {{table: {_quoted(files['folds'].name)}}}",
        f"window_bp: {WINDOW_BP}",
        "cell_types:",
    ]
    for name, cell in cells.items():
        table = _quoted(files[f"{name}_expression"].name)
        own = _quoted(column.format(cell=name))
        lines += [
            f"  {_quoted(name)}:",
            f"    label: {{table: {table}, column: {own}, transform: {transform}}}",
            f"    scalars: {{table: {table}, columns: [{', '.join(SCALARS)}]}}",
            "    signals:",
        ]
        for signal, (_, role) in TRACKS.items():
            path = cell.tracks[signal]
            lines.append(
                f"      {signal}: {{file: {place(path)}, kind: bigwig, role: {role}, accession: {_quoted(path.stem)}}}"
            )
        hic = place(folder / INTERACTIONS / "HiC" / name / HIC_FILE)
        lines.append(f"      hic: {{file: {hic}, kind: gene_windows, role: background, transform: log10p1}}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Text in YAML's double quotes, which are JSON's."""
    return json.dumps(text, ensure_ascii=False)
