"""The quality report of a feature store: one page that shows whether tracks, labels and genome belong together."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from prism_ray.errors import FaultList, StoreError
from prism_ray.report.page import definitions_html, document, figure_html
from prism_ray.report.store_quality_figures import (
    draw_chromosomes,
    draw_labels,
    draw_profiles,
    draw_regions,
    label_unit,
    mark_collapses,
)
from prism_ray.report.store_quality_info import CellTypeInfo, chrom_info, label_info, read_cell_types, region_info
from prism_ray.report.store_quality_tables import (
    chromosome_table,
    facts,
    or_unknown,
    signal_table,
    sources_table,
    unknown_bases,
)
from prism_ray.store import Store
from prism_ray.store.quality_text import cell_type_warnings
from prism_ray.store.regions import ALPHA, SMALLEST_DROP, WINDOW_GENES

QUALITY_NAME = "quality.html"
_MUCH_SHARED = 0.01


def write_store_report(store: Store, out: Path) -> Path:
    """Write the quality report of a store as one page that needs no network; the same store gives the same bytes.

    Args:
        store: a finished store; its inner rings and its build report are read.
        out: file to write, over an earlier one.

    Returns:
        The page.

    Raises:
        StoreError: the store is damaged, or `out` cannot be written.
    """
    text = document(f"Quality of {store.description.name}", _parts(store))
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    faults = FaultList()
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as problem:
        faults.add(str(out), f"cannot be written ({problem.strerror})", "give another file with --out")
    finally:
        temporary.unlink(missing_ok=True)
    faults.raise_if_any(StoreError)
    return out


def store_warnings(store: Store, cells: Sequence[CellTypeInfo]) -> list[str]:
    """Everything to look at before training on a store."""
    found = [f"{cell.name}: {text}" for cell in cells for text in cell_type_warnings(cell.report)]
    return found + _shared_files(store)


def _shared_files(store: Store) -> list[str]:
    """Files that stand under two cell types, told by their MD5."""
    users: dict[str, list[tuple[str, str]]] = {}
    for cell_type, cell in store.description.cell_types.items():
        for name, source in cell.sources.items():
            users.setdefault(source.md5, []).append((cell_type, name))
    shared = [pairs for pairs in users.values() if len({cell_type for cell_type, _ in pairs}) > 1]
    return [
        f"{' and '.join(f'{name} of {cell_type}' for cell_type, name in pairs)} are the same file: "
        "is one of them of another cell type?"
        for pairs in shared
    ]


def _parts(store: Store) -> list[str]:
    cells = read_cell_types(store)
    description = store.description
    parts = [
        '<p class="study">Quality of a feature store</p>',
        f"<h1>{escape(description.name)}</h1>",
        *_warning_parts(store_warnings(store, cells)),
        definitions_html(facts(store)),
        "<h2>Labels</h2>",
        _label_figure(store, cells),
    ]
    for number, cell in enumerate(cells):
        parts += _cell_type_parts(store, cell, number)
    parts += ["<h2>Sources</h2>", sources_table(store), "<h2>How regions are judged</h2>", f"<p>{escape(_rule())}</p>"]
    return parts


def _warning_parts(warnings: Sequence[str]) -> list[str]:
    if not warnings:
        return ['<p class="answer">No warnings: every check of this page passed.</p>']
    count = "1 warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    return [
        f"<p>{count}; look at each before training.</p>",
        *(f'<p class="note">{escape(text)}</p>' for text in warnings),
    ]


def _label_figure(store: Store, cells: Sequence[CellTypeInfo]) -> str:
    units = {name: label_unit(cell.label.transform) for name, cell in store.description.cell_types.items()}
    labels = {cell.name: cell.report.label for cell in cells}
    shared = {
        name: f", {label.commonest_fraction:.0%} of genes at {label.commonest:.3g}" for name, label in labels.items()
    }
    caption = "Genes by label. " + " ".join(
        f"{name}: median {label.quartiles[1]:.2f}{shared[name] if label.commonest_fraction > _MUCH_SHARED else ''}."
        for name, label in labels.items()
    )
    return figure_html(draw_labels(label_info(cells), units), "labels", "Distribution of the label", caption)


def _cell_type_parts(store: Store, cell: CellTypeInfo, number: int) -> list[str]:
    name = cell.name
    counts = cell.report
    parts = [
        f"<h2>{escape(name)}</h2>",
        f"<p>{counts.n_genes:,} genes on {len(counts.genes_per_chrom)} chromosomes; {or_unknown(counts.n_dropped)} "
        f"left out for want of a label; {unknown_bases(store, cell)}.</p>",
    ]
    if cell.transforms:
        parts += [
            "<h3>Signals</h3>",
            signal_table(store, cell),
            "<h3>Signal around the TSS</h3>",
            _profile_figure(store, cell, number),
            "<h3>Agreement with the label by chromosome</h3>",
            _chromosome_figure(cell, number),
            "<h3>Agreement with the label along the genome</h3>",
            _region_figure(cell, number),
        ]
    return [*parts, "<h3>Padding and missing values</h3>", chromosome_table(store, cell)]


def _profile_figure(store: Store, cell: CellTypeInfo, number: int) -> str:
    strand_aware = store.description.strand_aware
    direction = "in the direction of the gene" if strand_aware else "on the forward strand"
    caption = (
        f"Mean of the stored values by distance from the TSS ({direction}), over the genes with the lowest, middle and "
        "highest third of the label; missing values count as 0. A promoter mark rises at the TSS, most of all in the "
        "highest third; a profile that does not says that TSS and track are of two assemblies."
    )
    drawing = draw_profiles(cell.profiles, cell.transforms)
    return figure_html(drawing, f"profiles-{number}", f"Signals around the TSS in {cell.name}", caption)


def _chromosome_figure(cell: CellTypeInfo, number: int) -> str:
    info = chrom_info(cell)
    n_genes = cell.report.genes_per_chrom
    fewest = min(n_genes, key=lambda chrom: n_genes[chrom])
    caption = (
        "Pearson correlation of each signal at the TSS with the label, by chromosome; × where one of them is constant. "
        f"Few genes scatter more: {fewest} has {n_genes[fewest]}."
    )
    title = f"Correlation of signals with the label by chromosome in {cell.name}"
    return figure_html(draw_chromosomes(info), f"chromosomes-{number}", title, caption)


def _region_figure(cell: CellTypeInfo, number: int) -> str:
    report, genes = cell.report, cell.genes
    overall = {name: signal.correlation for name, signal in report.signals.items()}
    drawing = draw_regions(region_info(cell), overall, genes.chrom.tolist())
    mark_collapses(drawing, list(overall), report.collapses, pd.DataFrame({"chrom": genes.chrom, "tss": genes.tss}))
    n_found = len(report.collapses)
    found = {0: "it collapses nowhere", 1: "1 place where it collapses is marked"}.get(
        n_found, f"{n_found} places where it collapses are marked"
    )
    caption = (
        f"Pearson correlation with the label over {WINDOW_GENES} neighbouring genes along the genome (a dot: a "
        f"chromosome with no more genes than that); dashed: over all genes; {found}."
    )
    title = f"Correlation of signals with the label along the genome in {cell.name}"
    return figure_html(drawing, f"regions-{number}", title, caption)


def _rule() -> str:
    return (
        f"A signal's correlation over {WINDOW_GENES} neighbouring genes, or over a chromosome, is compared with that "
        "of all other genes, brought to the spread of the label there, by the difference of Fisher's z, scaled by how "
        f"much regions differ anyway. Marked is a drop of more than {SMALLEST_DROP} with p below {ALPHA} after "
        "Bonferroni's correction for all regions, chromosomes and signals of the cell type; and a signal that is the "
        "same for all genes of a region whose label varies."
    )
