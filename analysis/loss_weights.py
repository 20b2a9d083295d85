"""Two settings varied together: a map of a metric over alpha and beta.

python -m analysis.loss_weights --study loss_weights --out figures
python -m analysis.loss_weights --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import grid_figure

NAME = "loss_weights"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `loss_weights.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return grid_figure(source.trials, source.header)


if __name__ == "__main__":
    sys.exit(main())
