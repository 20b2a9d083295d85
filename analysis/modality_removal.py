"""What trained models lose without an input, models beside each other.

python -m analysis.modality_removal --study modality_removal --out figures
python -m analysis.modality_removal --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import removal_figure

NAME = "modality_removal"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `modality_removal.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return removal_figure(source.trials, source.table, source.header)


if __name__ == "__main__":
    sys.exit(main())
