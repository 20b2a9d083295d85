"""Views of an experiment for MLflow's UI: they stand in its menu of views, and a link opens one.

The format is that of the UI's own saved views (a tag of the experiment, read with MLflow 3.17): what it does not know
it leaves out, and a view that it cannot read is an error message in the browser, nothing more.
"""

from __future__ import annotations

import json
from typing import Any

from prism_ray.tracking.headers import StudyHeader

VIEW_TAG = "mlflow.sharedViewState."
TRAINING = "workflowType=machine_learning"
"""Part of a page's address that makes the UI show runs of training first, and not its pages for language models."""
ARMS_VIEW, SEEDS_VIEW = "prism-arms", "prism-arms-seeds"
_MOST_RUNS = 100


def view_tags(header: StudyHeader) -> dict[str, str]:
    """Tags of a study's experiment that hold its views: arms as means over their runs, and each arm and seed apart."""
    return {
        f"{VIEW_TAG}{ARMS_VIEW}": _view("Arms: mean over seeds and folds", _state(header, "prism.arm")),
        f"{VIEW_TAG}{SEEDS_VIEW}": _view("Arms and seeds", _state(header, "prism.arm", "prism.seed")),
    }


def view_link(experiment_id: str, view: str) -> str:
    """Address of a view, below that of the server."""
    page = f"#/experiments/{experiment_id}/runs"
    return f"{page}?compareRunsMode=CHART&{TRAINING}&viewStateShareKey={view}"


def run_link(experiment_id: str, run_id: str, page: str = "") -> str:
    """Address of a run, or of one of its pages, below that of the server."""
    return f"#/experiments/{experiment_id}/runs/{run_id}{page and f'/{page}'}?{TRAINING}"


def experiment_link(experiment_id: str) -> str:
    """Address of an experiment's runs, below that of the server."""
    return f"#/experiments/{experiment_id}/runs?{TRAINING}"


def _view(name: str, state: dict[str, Any]) -> str:
    # A fixed time keeps the tag, and with it what a second launch writes, the same.
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)})


def _state(header: StudyHeader, *group_by: str) -> dict[str, Any]:
    metric = header.metric
    curves = ["val/mse", "train/loss"]
    charts = [_chart("BAR", metric), *(_chart("LINE", name) for name in curves)]
    section = {"uuid": "prism", "name": header.name, "display": True, "isReordered": True, "deleted": False}
    return {
        "searchFilter": "tags.`prism.arm` LIKE '%'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": header.direction == "minimize",
        "selectedColumns": ["tags.`prism.arm`", "tags.`prism.seed`", "tags.`prism.fold`", f"metrics.`{metric}`"],
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": tag} for tag in group_by],
        },
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOWALL",
        # Otherwise the UI puts sections in the order of their names.
        "isAccordionReordered": True,
        "compareRunCharts": charts,
        "compareRunSections": [{**section, "isGenerated": False}],
    }


def _chart(kind: str, metric: str) -> dict[str, Any]:
    chart = {
        "uuid": f"prism-{metric}",
        "type": kind,
        "runsCountToCompare": _MOST_RUNS,
        "metricSectionId": "prism",
        "deleted": False,
        "isGenerated": False,
        "displayName": metric,
        "metricKey": metric,
    }
    if kind == "LINE":
        chart |= {
            "selectedMetricKeys": [metric],
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "lineSmoothness": 0,
            "scaleType": "linear",
            "xAxisScaleType": "linear",
            "useGlobalLineSmoothing": True,
            "useGlobalXaxisKey": True,
        }
    return chart
