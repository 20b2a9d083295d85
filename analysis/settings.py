"""A search: its metric against each setting.

python -m analysis.settings --study joint_search --out figures
python -m analysis.settings --trials trials.parquet --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.search_figures import settings_figure

NAME = "settings"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `settings.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure, or None where there is nothing to show."""
    return settings_figure(source.own, source.header)


if __name__ == "__main__":
    sys.exit(main())
