"""How long a window: the curve of a metric against its length, a line a kind of input.

python -m analysis.window_length --study window_length --out figures
python -m analysis.window_length --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import curve_figure

NAME = "window_length"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `window_length.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv, curve="data.window_bp")


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return curve_figure(source.trials, source.header)


if __name__ == "__main__":
    sys.exit(main())
