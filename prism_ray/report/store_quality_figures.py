"""The drawings of a store's quality report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from prism_ray.report.store_quality_info import TERTILES
from prism_ray.report.style import COLOURS, INK, QUIET, colour_bar, new_figure
from prism_ray.store.regions import Collapse, chrom_bounds

_COLUMNS = 3
_LINES = (("#8b9199", ":"), (COLOURS[0], "--"), (COLOURS[1], "-"))
_SMALL = 7.5
_UNITS = {"none": "unit of the track", "log1p": "ln(1 + x)", "log10p1": "log10(1 + x)"}
_MOST_NUMBERS = 30
_FEW_WINDOWS = 4
_DARK_FROM = 0.72
"""Absolute correlation from which a cell of the map is so dark that its number is white."""


def draw_labels(info: pd.DataFrame, units: dict[str, str]) -> Figure:
    """Distribution of the label, one panel a cell type; `units` by cell type."""
    names = list(dict.fromkeys(info["cell_type"]))
    figure, axes = _panels(len(names), 2.5)
    for axis, name in zip(axes, names, strict=True):
        part = info[info["cell_type"] == name]
        width = part["high"] - part["low"]
        axis.bar(part["low"], part["n_genes"], width=width, align="edge", color=COLOURS[0])
        axis.set_title(name, fontsize=10)
        axis.set_xlabel(f"label, {units[name]}", fontsize=9)
    axes[0].set_ylabel("genes")
    return figure


def label_unit(transform: str) -> str:
    """What a label is measured in, from its transform."""
    return "as given" if transform == "none" else _UNITS[transform]


def draw_profiles(info: pd.DataFrame, transforms: dict[str, str]) -> Figure:
    """Mean signal around the TSS by third of the label, one panel a signal."""
    names = list(dict.fromkeys(info["signal"]))
    figure, axes = _panels(len(names), 2.1)
    n_genes = info.drop_duplicates("tertile").set_index("tertile")["n_genes"]
    for axis, name in zip(axes, names, strict=True):
        part = info[info["signal"] == name]
        for tertile, (colour, style) in zip(TERTILES, _LINES, strict=True):
            line = part[part["tertile"] == tertile]
            if len(line):
                label = f"{tertile} ({n_genes[tertile]:,} genes)"
                axis.plot(line["distance_bp"] / 1000.0, line["mean"], style, color=colour, linewidth=1.5, label=label)
        axis.axvline(0.0, color=QUIET, linewidth=0.8, zorder=0)
        if part["mean"].min() >= 0.0:
            axis.set_ylim(bottom=0.0)
        axis.set_title(name, fontsize=9)
        axis.set_ylabel(_UNITS[transforms[name]], fontsize=8)
        axis.tick_params(labelsize=8)
    for axis in axes[-_COLUMNS:]:
        axis.set_xlabel("kb from the TSS", fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, labelcolor=INK, fontsize="small")
    return figure


def draw_chromosomes(info: pd.DataFrame) -> Figure:
    """Map of the correlation by signal (row) and chromosome (column); constant ones are crossed out."""
    signals, chroms = list(dict.fromkeys(info["signal"])), list(dict.fromkeys(info["chrom"]))
    grid = info.pivot(index="signal", columns="chrom", values="correlation").loc[signals, chroms].to_numpy(np.float64)
    figure, (axis,) = new_figure(height_in=1.1 + 0.27 * len(signals))
    mesh = axis.pcolormesh(np.ma.masked_invalid(grid), cmap="PuOr_r", vmin=-1.0, vmax=1.0, edgecolors="none")
    colour_bar(figure, mesh, axis, "Pearson r")
    size = 6.0 if len(chroms) <= 20 else 5.3
    for row, column in np.ndindex(grid.shape):
        value = grid[row, column]
        if np.isnan(value):
            axis.text(column + 0.5, row + 0.5, "×", ha="center", va="center", fontsize=_SMALL, color=INK)
        elif len(chroms) <= _MOST_NUMBERS:
            colour = "#ffffff" if abs(value) > _DARK_FROM else "#000000"
            text = f"{value:.2f}".replace("0.", ".", 1)
            axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)
    axis.set_xticks(np.arange(len(chroms)) + 0.5, _short(chroms), fontsize=_SMALL, rotation=_rotation(chroms))
    axis.set_yticks(np.arange(len(signals)) + 0.5, signals, fontsize=8)
    axis.tick_params(length=0)
    axis.invert_yaxis()
    axis.set_xlabel("chromosome")
    axis.spines[:].set_visible(False)
    return figure


def draw_regions(info: pd.DataFrame, overall: dict[str, float | None], chrom: Sequence[str]) -> Figure:
    """Correlation over windows of neighbouring genes, one strip a signal.

    Args:
        info: as `region_info` makes it.
        overall: correlation over all genes by signal.
        chrom: (N,) chromosome of each gene, in genome order.
    """
    figure, axes = new_figure(n_rows=len(overall), height_in=0.9 + 0.85 * len(overall))
    bounds = chrom_bounds(np.asarray(chrom))
    for axis, (name, usual) in zip(axes, overall.items(), strict=True):
        part = info[info["signal"] == name]
        for number, (_, line) in enumerate(part.groupby("chrom", sort=False)):
            # A line between a few windows would be too short to see.
            style = "-" if len(line) > _FEW_WINDOWS else "o-"
            axis.plot(line["gene"], line["correlation"], style, color=COLOURS[0], linewidth=1.2, markersize=3)
            start, stop = list(bounds.values())[number]
            if number % 2:
                axis.axvspan(start, stop, color=QUIET, alpha=0.15, linewidth=0, zorder=0)
        axis.axhline(0.0, color=QUIET, linewidth=0.8, zorder=0)
        if usual is not None:
            axis.axhline(usual, color=QUIET, linewidth=1, linestyle="--", zorder=0)
        axis.set_title(name, loc="left", fontsize=8.5, pad=2)
        known = np.append(part["correlation"].dropna().to_numpy(np.float64), 0.0)
        axis.set_ylim(known.min() - 0.1, known.max() + 0.2)
        axis.set_xlim(0, len(chrom))
        axis.yaxis.set_major_locator(MultipleLocator(0.5))
        axis.tick_params(labelsize=8)
        axis.set_xticks([])
    _name_chromosomes(axes[-1], bounds, len(chrom))
    figure.supylabel("Pearson r with the label", fontsize=9, color=INK)
    return figure


def mark_collapses(figure: Figure, signals: Sequence[str], collapses: Sequence[Collapse], genes: pd.DataFrame) -> None:
    """Mark collapsed regions in a drawing of `draw_regions`; `genes` has the columns chrom and tss, in genome order."""
    place = {name: axis for name, axis in zip(signals, figure.axes, strict=True)}
    for collapse in collapses:
        inside = (genes["chrom"] == collapse.chrom) & genes["tss"].between(collapse.start, collapse.end - 1)
        rows = np.flatnonzero(inside.to_numpy())
        axis = place[collapse.signal]
        axis.axvspan(rows[0], rows[-1] + 1, color=COLOURS[1], alpha=0.35, linewidth=0)
        axis.plot(rows.mean(), 0.9, "v", color=COLOURS[1], markersize=7, transform=axis.get_xaxis_transform())


def _panels(n_panels: int, row_height_in: float) -> tuple[Figure, list[Axes]]:
    """A grid of at most three columns with one axis a panel."""
    n_columns = min(_COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure, axes = new_figure(n_rows, n_columns, height_in=0.6 + row_height_in * n_rows)
    for axis in axes[n_panels:]:
        axis.remove()
    return figure, axes[:n_panels]


def _short(chroms: Sequence[str]) -> list[str]:
    """Names without the `chr` that all of them begin with."""
    return (
        [name[3:] for name in chroms]
        if all(name.startswith("chr") and len(name) > 3 for name in chroms)
        else list(chroms)
    )


def _rotation(chroms: Sequence[str]) -> float:
    return 90.0 if max(len(name) for name in _short(chroms)) > 2 else 0.0


def _name_chromosomes(axis: Axes, bounds: dict[str, tuple[int, int]], n_genes: int) -> None:
    """Chromosomes below a strip, at two heights in turn where they would touch."""
    names = _short(list(bounds))
    middles = [(start + stop) / 2 for start, stop in bounds.values()]
    crowded = len(names) > 1 and float(np.diff(middles).min()) < 0.03 * n_genes
    texts = ["\n" + name if crowded and number % 2 else name for number, name in enumerate(names)]
    axis.set_xticks(middles, texts, fontsize=_SMALL, rotation=_rotation(list(bounds)))
    axis.tick_params(axis="x", length=0)
    axis.set_xlabel("genes in genome order, by chromosome", fontsize=9)
