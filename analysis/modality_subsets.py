"""Which signals together: a metric of each subset above a matrix of what is in it.

python -m analysis.modality_subsets --study modality_subsets --out figures
python -m analysis.modality_subsets --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import subsets_figure

NAME = "modality_subsets"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `modality_subsets.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return subsets_figure(source.trials, source.header)


if __name__ == "__main__":
    sys.exit(main())
