"""A search with two objectives: each trial, and those that no other one beats in both.

python -m analysis.pareto --study joint_search_cost --out figures
python -m analysis.pareto --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.search_figures import pareto_figure

NAME = "pareto"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `pareto.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return pareto_figure(source.own, source.header)


if __name__ == "__main__":
    sys.exit(main())
