from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from prism_ray.errors import TrackingError
from prism_ray.tracking import MlflowTracker, fetch_predictions, fetch_state_weights, fetch_trials
from prism_ray.tracking.client import connect
from prism_ray.tracking.predictions import EXAMPLE_NAME, PREDICTIONS_NAME, STATES_NAME
from prism_ray.training import record
from tests.tracking_support import STUDY, fresh_store, trial_header

TABLE = pd.DataFrame({"gene_id": ["a", "b"], "chrom": ["chr1", "chrX"], "label": [1.0, 2.0], "prediction": [1.5, 1.0]})


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


STATES = pd.DataFrame({"gene_id": ["a", "b"], "state_1": [[0.25, 0.5], [0.75, 1.0]], "state_2": [[0.5, 0.5]] * 2})


def track(uri: str, folder: Path) -> dict[str, str]:
    """Two runs, of which one keeps predictions and weights of states; run ids by arm."""
    file, states = folder / PREDICTIONS_NAME, folder / STATES_NAME
    TABLE.assign(more=1).to_parquet(file)
    STATES.to_parquet(states)
    tracker = MlflowTracker(uri)
    parent = tracker.open_study(STUDY, {})
    for arm in STUDY.arms:
        log = tracker.open_trial(parent, trial_header(arm))
        log.log({"test/mse": 0.2}, 1)
        if arm == "n2":
            log.log_files({PREDICTIONS_NAME: file, STATES_NAME: states})
        log.finish("FINISHED")
    trials = fetch_trials(uri, STUDY.name)
    return dict(zip(trials["arm"], trials["run_id"], strict=True))


def test_predictions_come_back_by_run(uri: str, tmp_path: Path) -> None:
    runs = track(uri, tmp_path)
    found = fetch_predictions(uri, runs.values())
    assert list(found) == [runs["n2"]]
    pd.testing.assert_frame_equal(found[runs["n2"]], TABLE)
    weights = fetch_state_weights(uri, runs.values())
    assert list(weights) == [runs["n2"]]
    read = weights[runs["n2"]]
    assert [[list(values) for values in read[name]] for name in ("state_1", "state_2")] == [
        STATES["state_1"].to_list(),
        STATES["state_2"].to_list(),
    ]


def test_a_run_whose_files_lie_elsewhere_is_asked_for(uri: str, tmp_path: Path) -> None:
    """Where files of one run are found by where the first run's lie, one of another experiment must be found too."""
    runs = track(uri, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    client = connect(uri)
    experiment = client.create_experiment("elsewhere", artifact_location=str(tmp_path / "elsewhere"))
    other = client.create_run(experiment).info
    TABLE.to_parquet(tmp_path / PREDICTIONS_NAME)
    client.log_artifact(other.run_id, str(tmp_path / PREDICTIONS_NAME))
    assert list(fetch_predictions(uri, [runs["n2"], runs["n0"], other.run_id])) == [runs["n2"], other.run_id]
    assert fetch_predictions(uri, []) == {}


def test_an_unknown_run_is_named(uri: str) -> None:
    with pytest.raises(TrackingError, match="0123"):
        fetch_predictions(uri, ["0123"])
    with pytest.raises(TrackingError, match="4567"):
        fetch_predictions(uri, [connect(uri).create_run("0").info.run_id, "4567"])


def test_the_file_is_the_one_that_a_record_writes() -> None:
    written = record.PREDICTIONS_NAME, record.STATES_NAME, record.EXAMPLE_NAME
    assert written == (PREDICTIONS_NAME, STATES_NAME, EXAMPLE_NAME)
