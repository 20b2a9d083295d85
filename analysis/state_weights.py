"""Learned background states: the weights a_i of one run by channel, over its test genes in the order of expression.

python -m analysis.state_weights --study confounder_count --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.gather import shown_weights
from prism_ray.report.gene_figures import states_figure
from prism_ray.tracking import fetch_predictions

NAME = "state_weights"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `state_weights.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure of the best arm's first run, or None where no run learned states or kept their weights."""
    weights = shown_weights(source.tracking_uri, source.runs, source.table, source.compared)
    predictions = fetch_predictions(source.tracking_uri, weights)
    return states_figure(source.runs, source.table, predictions, weights, source.compared)


if __name__ == "__main__":
    sys.exit(main())
