"""Models trained on one cell type and tested on another: a matrix a model.

python -m analysis.cross_cell --study cross_cell --out figures
python -m analysis.cross_cell --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import cross_figure

NAME = "cross_cell"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `cross_cell.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return cross_figure(source.trials, source.header)


if __name__ == "__main__":
    sys.exit(main())
