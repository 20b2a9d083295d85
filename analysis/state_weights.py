"""Learned background states: the weights a_i of one run by channel, over its test genes in the order of expression.

python -m analysis.state_weights --study confounder_count --out figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from analysis.script import run_script
from analysis.sources import Source
from prism_ray.report.figure import StudyFigure
from prism_ray.report.gene_figures import states_figure
from prism_ray.report.states import state_run
from prism_ray.tracking import fetch_predictions, fetch_state_weights

NAME = "state_weights"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `state_weights.pdf`, `.png`, `.csv` and `.json`; see `run_script` for what is returned."""
    return run_script(NAME, __doc__, draw, argv)


def draw(source: Source) -> StudyFigure | None:
    """The figure of the run that `state_run` chooses, or None where no run learned states or kept their weights."""
    run = state_run(source.runs, source.table, source.compared)
    if run is None:
        return None
    uri, wanted = source.tracking_uri, [run["run_id"]]
    predictions, weights = fetch_predictions(uri, wanted), fetch_state_weights(uri, wanted)
    return states_figure(source.runs, source.table, predictions, weights, source.compared)


if __name__ == "__main__":
    sys.exit(main())
