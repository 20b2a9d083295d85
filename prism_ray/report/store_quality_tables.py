"""The tables of a store's quality report, as HTML."""

from __future__ import annotations

from html import escape

import numpy as np

from prism_ray.report.page import table_html
from prism_ray.report.store_quality_figures import label_unit
from prism_ray.report.store_quality_info import CellTypeInfo
from prism_ray.sizes import size_text
from prism_ray.store import Store
from prism_ray.store.quality_text import weakest_chromosome
from prism_ray.store.schema import SourceDescription

_NOT_RECORDED = "not recorded"


def facts(store: Store) -> list[tuple[str, str]]:
    """What a store is, as words and what stands for each."""
    description = store.description
    dna = description.sequence
    return [
        ("Assembly", description.assembly),
        ("Window", f"{store.window_bp:,} bp around each TSS"),
        ("Genes", ", ".join(f"{name} {cell.n_genes:,}" for name, cell in description.cell_types.items())),
        ("Size", size_text(sum(entry.bytes for entry in description.all_files))),
        ("DNA", "none" if dna is None else dna.file),
        (
            "Strand",
            "genes on the reverse strand are turned" if description.strand_aware else "windows as on the genome",
        ),
        ("Blacklist", "none" if description.blacklist is None else description.blacklist.file),
        ("Scalars", ", ".join(store.scalar_names) or "none"),
        ("Digest", store.digest),
        ("Builder", f"prism-ray {description.builder_version}, schema {description.schema_version}"),
    ]


def signal_table(store: Store, cell: CellTypeInfo) -> str:
    """A signal a row: how it is stored and what was found in it."""
    headings = ["signal", "role", "transform", "stored as", "missing", "r at TSS", "weakest chromosome"]
    headings += ["TSS / flanks", "float16 loss"]
    described = {signal.name: signal for signal in store.description.signals}
    rows = []
    for name, found in cell.report.signals.items():
        signal = described[name]
        beside = "-" if found.centre_mean is None else f"{found.centre_mean:.3g} / {found.flank_mean:.3g}"
        rows.append(
            [
                name,
                signal.role,
                signal.transform,
                signal.dtype,
                _percent(found.missing_fraction),
                "constant" if found.correlation is None else f"{found.correlation:.3f}",
                weakest_chromosome(cell.report, found),
                beside,
                "-" if found.float16_loss is None else f"{found.float16_loss:.1e}",
            ]
        )
    note = (
        "Missing: bases inside the chromosome without a value, stored as 0. r: Pearson correlation of the mean in the "
        "2 kb around the TSS with the label. TSS / flanks: mean there and 1 to 5 kb away, over the third of the genes "
        "with the highest label. float16 loss: rounding error as a part of the standard deviation."
    )
    return table_html(headings, rows) + f'<p class="study">{escape(note)}</p>'


def chromosome_table(store: Store, cell: CellTypeInfo) -> str:
    """A chromosome a row: genes, windows beyond its ends, and bases without a value by signal, where recorded."""
    half = store.window_bp // 2
    missing = {name: found.chrom_missing for name, found in cell.report.signals.items() if found.chrom_missing}
    rows = []
    for chrom, n_genes in cell.report.genes_per_chrom.items():
        tss = cell.genes.tss[cell.genes.chrom == chrom]
        n_padded = int(np.count_nonzero((tss < half) | (tss + half > store.description.chrom_sizes[chrom])))
        shown = [_percent(by_chrom.get(chrom)) for by_chrom in missing.values()]
        rows.append([chrom, f"{n_genes:,}", f"{n_padded:,}", *shown])
    found = table_html(["chromosome", "genes", "padded windows", *missing], rows)
    notes = ["Below a signal: bases inside the chromosome without a value."] if missing else []
    left_out = [name for name in cell.transforms if name not in missing]
    if left_out:
        notes.append(f"The build report does not say which bases are missing by chromosome in {', '.join(left_out)}.")
    return found + "".join(f'<p class="study">{escape(note)}</p>' for note in notes)


def sources_table(store: Store) -> str:
    """Every file that the store was made of."""
    description = store.description
    rows = [
        ["all", what, *_source_cells(source)]
        for what, source in (("DNA", description.sequence), ("blacklist", description.blacklist))
        if source is not None
    ]
    for cell_type, cell in description.cell_types.items():
        rows.append([cell_type, f"label ({label_unit(cell.label.transform)})", cell.label.source, "-", "-", "-"])
        rows += [[cell_type, name, *_source_cells(source)] for name, source in cell.sources.items()]
    return table_html(["cell type", "what", "file", "format", "accession", "MD5"], rows)


def _source_cells(source: SourceDescription) -> list[str]:
    settings = ", ".join(f"{name} {value}" for name, value in source.settings.items())
    kind = f"{source.kind} ({settings})" if settings else source.kind
    return [source.file, kind, source.accession or "-", source.md5]


def unknown_bases(store: Store, cell: CellTypeInfo) -> str:
    """How much of the DNA is unknown, in words."""
    if not store.has_sequence:
        return "no DNA"
    if cell.report.unknown_bases_fraction is None:
        return f"unknown bases {_NOT_RECORDED}"
    words = f"{cell.report.unknown_bases_fraction:.2%} of the bases N"
    mostly = cell.report.n_mostly_unknown
    return words if mostly is None else f"{words}, {mostly:,} windows more than half N"


def _percent(part: float | None) -> str:
    return _NOT_RECORDED if part is None else f"{part:.1%}"


def or_unknown(count: int | None) -> str:
    """A count as text, also where the build report is lost."""
    return f"number {_NOT_RECORDED}" if count is None else f"{count:,}"
