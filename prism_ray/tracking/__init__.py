"""Where studies and trials are recorded so that people can compare them: the only room that knows MLflow.

Importing this package loads neither MLflow nor pandas: both come in with the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism_ray.tracking.addresses import (
    default_artifact_root,
    default_tracking_uri,
    is_redacted,
    redact,
    resolve_tracking_uri,
    with_credentials,
    with_driver,
)
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
from prism_ray.tracking.source_state import source_diff, source_tags

if TYPE_CHECKING:
    from prism_ray.tracking.client import prepare
    from prism_ray.tracking.courier import process_courier
    from prism_ray.tracking.deliveries import Delivered, deliver_journals, journals_of, wait_for_deliveries
    from prism_ray.tracking.fetch import StudyRun, fetch_study, fetch_trials
    from prism_ray.tracking.host_metrics import system_metrics
    from prism_ray.tracking.journal import JOURNAL_NAME, replay
    from prism_ray.tracking.mlflow_tracker import MlflowTracker
    from prism_ray.tracking.predictions import fetch_example, fetch_predictions, fetch_state_weights

_LOADED_AT_FIRST_USE = {
    "Delivered": "deliveries",
    "JOURNAL_NAME": "journal",
    "MlflowTracker": "mlflow_tracker",
    "StudyRun": "fetch",
    "deliver_journals": "deliveries",
    "fetch_example": "predictions",
    "fetch_predictions": "predictions",
    "fetch_state_weights": "predictions",
    "fetch_study": "fetch",
    "fetch_trials": "fetch",
    "journals_of": "deliveries",
    "prepare": "client",
    "process_courier": "courier",
    "replay": "journal",
    "system_metrics": "host_metrics",
    "wait_for_deliveries": "deliveries",
}

__all__ = [
    "CLAIMS_CHANGED_TAG",
    "JOURNAL_NAME",
    "OUTCOME_TAG",
    "PRUNED",
    "Delivered",
    "Expected",
    "MlflowTracker",
    "NullTracker",
    "Status",
    "StudyHeader",
    "StudyRun",
    "Tracker",
    "TrialHeader",
    "TrialLog",
    "default_artifact_root",
    "default_tracking_uri",
    "deliver_journals",
    "fetch_example",
    "fetch_predictions",
    "fetch_state_weights",
    "fetch_study",
    "fetch_trials",
    "is_redacted",
    "journals_of",
    "prepare",
    "process_courier",
    "redact",
    "replay",
    "resolve_tracking_uri",
    "source_diff",
    "source_tags",
    "system_metrics",
    "wait_for_deliveries",
    "with_credentials",
    "with_driver",
]


def __getattr__(name: str) -> Any:
    if name in _LOADED_AT_FIRST_USE:
        return getattr(import_module(f"prism_ray.tracking.{_LOADED_AT_FIRST_USE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
