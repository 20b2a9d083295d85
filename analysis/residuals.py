"""Errors along observed expression.

python -m analysis.residuals --study paper_main --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.gene_figures import residuals_figure
from prism_ray.report.predicted import predicted_info

NAME = "residuals"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `residuals.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return residuals_figure(
        predicted_info(source.runs, source.predictions, source.compared), source.table, source.compared
    )


if __name__ == "__main__":
    sys.exit(main())
