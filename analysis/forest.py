"""Each arm's difference from its reference, with its interval.

python -m analysis.forest --study adjustment_controls --out figures
python -m analysis.forest --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import forest_figure

NAME = "forest"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `forest.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return forest_figure(source.table, source.compared)


if __name__ == "__main__":
    sys.exit(main())
