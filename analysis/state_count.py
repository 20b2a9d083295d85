"""How many background states: the curve of a metric against n, with the one-standard-error choice.

python -m analysis.state_count --study confounder_count --out figures
python -m analysis.state_count --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import curve_figure

NAME = "state_count"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `state_count.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv, curve="model.n_states")


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return curve_figure(source.trials, source.header)


if __name__ == "__main__":
    sys.exit(main())
