"""One look for every figure: sizes, colours, and how a figure becomes a file or a part of a page.

Figures are objects of their own; pyplot, with its list of open figures a process, is never used.
"""

from __future__ import annotations

import io
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

COLOURS = ("#2f7fc1", "#d9622b", "#1f9e77", "#b5609a", "#8a7a1f", "#5f6b7a")
"""Series colours, after Okabe and Ito: told apart without red and green, readable on white and on near black."""
LOG_AXIS_FROM = 20.0
"""Ratio of the largest to the smallest position from which an axis is logarithmic."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Series markers: a colour is never the only difference."""
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
"""Fillings of bars, for the same reason."""
INK = "#24272c"
"""Text and axes; on a page it becomes the page's own text colour."""
PAPER = "#fffffe"
"""What text is set off by from lines behind it; on a page it becomes the page's own background."""
QUIET = "#8b9199"
"""Reference lines and single runs."""
WIDTH_IN = 6.4
ROW_HEIGHT_IN = 0.42
LABEL_WIDTH = 70
"""Characters of a line below or above axes that are as wide as the figure."""
_LEGEND_WIDTH = 36
_LIGHT = 0.5
"""Part of the colour range from which a cell is light enough for dark text."""

# Matplotlib types its settings by a list of literal names that changes with each version.
_STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}
# Times and versions would make the same figure another file.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}
_ID = re.compile(r'\b(id="|href="#|url\(#)')


def new_figure(n_rows: int = 1, n_columns: int = 1, height_in: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure in our style with a grid of axes, row by row."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
    return figure, list(axes.flat)


def wrapped(text: str, width: int) -> str:
    """`text` in lines of at most `width` characters: what is wider than its figure leaves its axes no room."""
    return "\n".join(textwrap.wrap(text, width))


def shortened(text: str, longest: int) -> str:
    """`text`, cut to `longest` characters where it is longer; its whole is in the figure's table."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def set_off() -> dict[str, Any]:
    """The box of a text that stands over lines."""
    return {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}


def legend_above(axis: Axes) -> None:
    """A legend above the axes, where it hides no data."""
    handles, labels = axis.get_legend_handles_labels()
    labels = [wrapped(str(label), _LEGEND_WIDTH) for label in labels]
    n_columns = 2 if all(len(label) <= _LEGEND_WIDTH // 2 for label in labels) else 1
    axis.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=n_columns,
        frameon=False,
        labelcolor=INK,
        fontsize="small",
    )


def number_axis(axis: Axes, positions: Sequence[float], *, always_log: bool = False) -> None:
    """An x axis with a tick at each of the ascending `positions`, logarithmic where they span a factor of 20.

    Args:
        always_log: whatever they span, as long as all are above 0.
    """
    spans = positions[0] > 0 and positions[-1] / positions[0] >= LOG_AXIS_FROM
    if spans or (always_log and positions[0] > 0):
        axis.set_xscale("log")
    axis.set_xticks(positions, [tick_text(position) for position in positions])
    axis.minorticks_off()


def tick_text(value: float) -> str:
    """A number as short as a tick needs it: from 10,000 on in thousands, `20k`."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def draw_cells(
    axis: Axes,
    cells: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    direction: Literal["minimize", "maximize"],
    ends: tuple[float, float],
) -> ScalarMappable:
    """A map with a text in each cell. Bright is good, whichever direction that is.

    Args:
        axis: to draw on.
        cells: (rows, columns); nan stays empty.
        texts: of the same shape.
        direction: whether less or more is better.
        ends: values of both ends of the colours.
    """
    less = direction == "minimize"
    shades = "cividis_r" if less else "cividis"
    mapped = axis.imshow(cells, cmap=shades, aspect="auto", vmin=ends[0], vmax=ends[1])
    for place, value in np.ndenumerate(cells):
        shade = 0.5 if ends[0] == ends[1] or np.isnan(value) else (value - ends[0]) / (ends[1] - ends[0])
        is_light = (1 - shade if less else shade) > _LIGHT
        colour = INK if np.isnan(value) else "#000000" if is_light else "#ffffff"
        axis.text(place[1], place[0], texts[place[0]][place[1]], ha="center", va="center", color=colour)
    return mapped


def count_colours() -> Colormap:
    """Colours of counts, whose lowest is told from a white page and from a near black one."""
    return ListedColormap(colormaps["cividis"](np.linspace(0.35, 1.0, 256)), "counts")


def colour_bar(
    figure: Figure, mapped: ScalarMappable, axis: Axes | Sequence[Axes], label: str, *, whole: bool = False
) -> None:
    """A bar that says what the colours of a map, or of several beside each other, mean.

    Args:
        whole: tick whole numbers alone, for counts.
    """
    ticks = MaxNLocator(integer=True) if whole else None
    with mpl.rc_context(_STYLE):
        bar = figure.colorbar(mapped, ax=axis, label=label, pad=0.01, fraction=0.03, ticks=ticks)
    bar.outline.set_visible(False)


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as SVG to stand inside a page: transparent, text in the page's colour, ids of its own.

    Args:
        figure: what is drawn.
        name: unique among the figures of the page.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        _lay_out(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata=_METADATA["svg"])
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(PAPER, "var(--page)")
    text = _ID.sub(lambda match: f"{match.group(1)}{name}-", text)
    size = re.search(r'width="[\d.]+pt" height="[\d.]+pt"', text)
    if size is not None:
        text = text.replace(size.group(0), 'width="100%"', 1)
    return text.replace("<svg", f'<svg role="img" aria-label={json.dumps(label).replace("<", "&lt;")}', 1)


def save_figure(figure: Figure, info: pd.DataFrame, folder: Path, name: str, kinds: Sequence[str]) -> list[Path]:
    """Write `name.csv` with what is drawn, and the drawing in each of `kinds`, `png` or `pdf`; the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.csv"]
    info.to_csv(files[0], index=False)
    with mpl.rc_context(_STYLE):
        _lay_out(figure)
        for kind in kinds:
            files.append(folder / f"{name}.{kind}")
            figure.savefig(files[-1], facecolor="white", metadata=_METADATA[kind])
    return files


def _lay_out(figure: Figure) -> None:
    """Find the places of a finished figure's parts, once: every file written of it would find the same again."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        # "none" would leave an engine that places nothing, before which a file's figure is drawn twice.
        figure.set_layout_engine(None)
