"""Do trained models use their whole window: a metric against the window that they are given at test.

python -m analysis.window_truncation --study window_truncation --out figures
python -m analysis.window_truncation --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import truncation_figure

NAME = "window_truncation"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `window_truncation.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return truncation_figure(source.trials, source.header)


if __name__ == "__main__":
    sys.exit(main())
