"""Tracking on PostgreSQL, as a group's server has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.tracking import MlflowTracker, fetch_trials
from tests.postgres import PostgresServer
from tests.tracking_support import STUDY, trial_header


@pytest.mark.slow
def test_a_study_is_tracked_in_a_postgresql_database(postgres: PostgresServer, tmp_path: Path) -> None:
    tracker = MlflowTracker(postgres.new_database("tracking"), tmp_path)
    parent = tracker.open_study(STUDY, {})
    log = tracker.open_trial(parent, trial_header())
    log.log({"test/mse": 0.25}, 10)
    log.finish("FINISHED")
    assert fetch_trials(tracker.uri, STUDY.name)["test/mse"].tolist() == [0.25]
