"""Differences from the baseline fold by fold, chrX apart.

python -m analysis.folds --study all_folds --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.gene_figures import folds_figure

NAME = "folds"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `folds.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return folds_figure(source.runs, source.predictions, source.compared)


if __name__ == "__main__":
    sys.exit(main())
