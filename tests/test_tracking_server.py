"""A real MLflow server on loopback: what a cluster's trials talk to."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

from prism_ray.errors import TrackingError
from prism_ray.report.build import write_report
from prism_ray.tracking import (
    MlflowTracker,
    fetch_predictions,
    fetch_state_weights,
    fetch_study,
    fetch_trials,
)
from prism_ray.tracking import mlflow_trial as module
from prism_ray.tracking.predictions import PREDICTIONS_NAME, STATES_NAME
from tests.tracking_door import Door, TrackingServer
from tests.tracking_support import STUDY, trial_header


def per_gene_files(folder: Path) -> dict[str, Path]:
    """What a trial keeps of its test genes, by its path among the run's artifacts."""
    names = [f"g{number}" for number in range(40)]
    label = [number / 10 for number in range(40)]
    predictions = {"gene_id": names, "chrom": ["chr1"] * 40, "label": label, "prediction": label[::-1]}
    states = {"gene_id": names, "state_1": [[0.25, 0.75]] * 40, "state_2": [[0.5, 0.5]] * 40}
    files = {name: folder / name for name in (PREDICTIONS_NAME, STATES_NAME)}
    for table, file in zip((predictions, states), files.values(), strict=True):
        pd.DataFrame(table).to_parquet(file)
    return files


@pytest.mark.slow
def test_a_study_over_http_survives_an_outage(
    door: Door, tracking_server: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.0)
    uri = door.uri
    tracker = MlflowTracker(uri)
    journal = tmp_path / "journal.jsonl"
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    genes = per_gene_files(tmp_path)
    parent = tracker.open_study(STUDY, {"study.yaml": "question: ...\n"})
    logs = [tracker.open_trial(parent, trial_header(arm, seed)) for arm in STUDY.arms for seed in STUDY.seeds]
    for index, log in enumerate(logs[:3]):
        log.log({"test/mse": 0.25 + index, "val/mse": 0.5}, 10)
        log.log_files(genes)
        log.finish("FINISHED")
    last = tracker.open_trial(parent, trial_header("n2", 22), journal_path=journal)
    last.log({"val/mse": 1.0}, 5)
    door.close()
    started = time.monotonic()
    last.log({"val/mse": 0.5, "test/mse": 0.75}, 10)
    assert journal.exists()
    assert time.monotonic() - started < 60, "MLflow's own attempts take minutes"
    with pytest.raises(TrackingError, match=f"{uri}: cannot be reached"):
        fetch_study(uri, STUDY.name)
    door.open()
    last.log_files({"model/weights.bin": weights})
    last.finish("FINISHED")
    assert not journal.exists()
    assert last.run_id == logs[3].run_id
    trials = fetch_trials(uri, STUDY.name)
    assert trials["status"].tolist() == ["FINISHED"] * 4
    assert sorted(trials["test/mse"]) == [0.25, 0.75, 1.25, 2.25]
    tracker.close_study(parent, "FINISHED", {})
    result = write_report(uri, STUDY.name, tmp_path / "report")
    assert result.table["mean"].tolist() == [(0.25 + 1.25) / 2, (2.25 + 0.75) / 2]
    runs = [str(log.run_id) for log in logs]
    found = fetch_predictions(uri, runs), fetch_state_weights(uri, runs)
    # Of the run that ended with nothing but its weights there is no table.
    assert [list(tables) for tables in found] == [runs[:3], runs[:3]]
    for tables, file in zip(found, genes.values(), strict=True):
        pd.testing.assert_frame_equal(tables[runs[0]], pd.read_parquet(file))
    assert "Would it hold on other genes?" in result.html.read_text()
    served = {file.name for file in tracking_server.served.rglob("*") if file.is_file()}
    assert {"weights.bin", "report.html", "study.yaml", "curve.png"} <= served
