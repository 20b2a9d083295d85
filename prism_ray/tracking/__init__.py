"""Where studies and trials are recorded so that people can compare them: the only room that knows MLflow.

Importing this package loads neither MLflow nor pandas: both come in with the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism_ray.tracking.addresses import default_tracking_uri, redact, resolve_tracking_uri
from prism_ray.tracking.headers import (
    CLAIMS_CHANGED_TAG,
    OUTCOME_TAG,
    PRUNED,
    Expected,
    NullTracker,
    Status,
    StudyHeader,
    Tracker,
    TrialHeader,
    TrialLog,
)
from prism_ray.tracking.source_state import source_tags

if TYPE_CHECKING:
    from prism_ray.tracking.client import prepare
    from prism_ray.tracking.fetch import StudyRun, fetch_study, fetch_trials
    from prism_ray.tracking.journal import replay
    from prism_ray.tracking.mlflow_tracker import MlflowTracker
    from prism_ray.tracking.predictions import fetch_predictions

_LOADED_AT_FIRST_USE = {
    "MlflowTracker": "mlflow_tracker",
    "StudyRun": "fetch",
    "fetch_predictions": "predictions",
    "fetch_study": "fetch",
    "fetch_trials": "fetch",
    "prepare": "client",
    "replay": "journal",
}

__all__ = [
    "CLAIMS_CHANGED_TAG",
    "OUTCOME_TAG",
    "PRUNED",
    "Expected",
    "MlflowTracker",
    "NullTracker",
    "Status",
    "StudyHeader",
    "StudyRun",
    "Tracker",
    "TrialHeader",
    "TrialLog",
    "default_tracking_uri",
    "fetch_predictions",
    "fetch_study",
    "fetch_trials",
    "prepare",
    "redact",
    "replay",
    "resolve_tracking_uri",
    "source_tags",
]


def __getattr__(name: str) -> Any:
    if name in _LOADED_AT_FIRST_USE:
        return getattr(import_module(f"prism_ray.tracking.{_LOADED_AT_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
