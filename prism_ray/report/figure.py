"""What a figure of a report is."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class StudyFigure:
    """A figure of a report.

    Attributes:
        name: of its files.
        title: above it.
        caption: what to see and how many runs it rests on.
        info: what is drawn.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    info: pd.DataFrame
    figure: Figure
