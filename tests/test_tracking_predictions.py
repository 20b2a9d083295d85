from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from prism_ray.errors import TrackingError
from prism_ray.tracking import MlflowTracker, fetch_predictions, fetch_trials
from prism_ray.tracking.predictions import PREDICTIONS_NAME
from prism_ray.training import record
from tests.tracking_support import STUDY, fresh_store, trial_header

TABLE = pd.DataFrame({"gene_id": ["a", "b"], "chrom": ["chr1", "chrX"], "label": [1.0, 2.0], "prediction": [1.5, 1.0]})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


def track(uri: str, folder: Path) -> dict[str, str]:
    """Two runs, of which one keeps predictions; run ids by arm."""
    file = folder / PREDICTIONS_NAME
    TABLE.assign(more=1).to_parquet(file)
    tracker = MlflowTracker(uri)
    parent = tracker.open_study(STUDY, {})
    for arm in STUDY.arms:
        log = tracker.open_trial(parent, trial_header(arm))
        log.log({"test/mse": 0.2}, 1)
        if arm == "n2":
            log.log_files({PREDICTIONS_NAME: file})
        log.finish("FINISHED")
    trials = fetch_trials(uri, STUDY.name)
    return dict(zip(trials["arm"], trials["run_id"], strict=True))


def test_predictions_come_back_by_run(uri: str, tmp_path: Path) -> None:
    runs = track(uri, tmp_path)
    found = fetch_predictions(uri, runs.values())
    assert list(found) == [runs["n2"]]
    pd.testing.assert_frame_equal(found[runs["n2"]], TABLE)


def test_an_unknown_run_is_named(uri: str) -> None:
    with pytest.raises(TrackingError, match="0123"):
        fetch_predictions(uri, ["0123"])


def test_the_file_is_the_one_that_a_record_writes() -> None:
    assert record.PREDICTIONS_NAME == PREDICTIONS_NAME
