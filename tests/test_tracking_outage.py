from __future__ import annotations

import errno
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from prism_ray.errors import TrackingError
from prism_ray.tracking import MlflowTracker, fetch_trials, replay
from prism_ray.tracking import mlflow_trial as module
from prism_ray.tracking.client import connect
from tests.tracking_support import STUDY, fresh_store, trial_header


class Line:
    """The line to the store, which a test can cut. Each call while it is cut is counted."""

    def __init__(self) -> None:
        self.is_cut = False
        self.n_failed = 0

    def check(self) -> None:
        if self.is_cut:
            self.n_failed += 1
            raise MlflowException("API request failed: connection refused")

    def connect(self, uri: str) -> Any:
        self.check()
        return _Client(connect(uri), self)


class _Client:
    def __init__(self, client: MlflowClient, line: Line) -> None:
        self._client = client
        self._line = line

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._line.check()
            return getattr(self._client, name)(*args, **kwargs)

        return call


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


@pytest.fixture
def tracker(uri: str) -> MlflowTracker:
    return MlflowTracker(uri)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()
    monkeypatch.setattr(module, "connect", line.connect)
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(module, "_LONGEST_WAIT_S", 0.0)
    monkeypatch.setattr(module, "_FINISH_WAITS_S", ())
    return line


def _curve(client: MlflowClient, run_id: str | None, name: str = "val/mse") -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_what_is_logged_during_an_outage_arrives_after_it(tracker: MlflowTracker, line: Line, tmp_path: Path) -> None:
    journal = tmp_path / "trial" / "journal.jsonl"
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header(), journal_path=journal)
    log.log({"val/mse": 1.0}, 1)
    line.is_cut = True
    log.log({"val/mse": 0.5}, 2)
    log.set_tags({"prism.note": "during"})
    log.log({"val/mse": 0.25}, 3)
    kept = [json.loads(text) for text in journal.read_text().splitlines()]
    assert [record.get("kind") for record in kept] == [None, "metrics", "tags", "metrics"]
    line.is_cut = False
    log.log({"val/mse": 0.125}, 4)
    assert not journal.exists()
    log.finish("FINISHED")
    client = connect(tracker.uri)
    assert _curve(client, log.run_id) == [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125)]
    assert client.get_run(log.run_id).data.tags["prism.note"] == "during"
    # The time is that of the measurement, not of the delivery.
    stamps = [metric.timestamp for metric in client.get_metric_history(log.run_id, "val/mse")]
    assert stamps == sorted(stamps)


def test_a_trial_that_starts_in_an_outage_gets_its_run_later(tracker: MlflowTracker, line: Line) -> None:
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    log = tracker.open_trial(parent, trial_header())
    log.log({"val/mse": 1.0}, 1)
    assert log.run_id is None
    line.is_cut = False
    log.log({"val/mse": 0.5}, 2)
    client = connect(tracker.uri)
    assert _curve(client, log.run_id) == [(1, 1.0), (2, 0.5)]
    assert client.get_run(log.run_id).data.params["model.n_states"] == "2"


def test_a_point_that_waited_and_is_logged_again_is_sent_once(
    tracker: MlflowTracker, line: Line, tmp_path: Path
) -> None:
    """A trial that goes on finds in its journal what it trains again, and tells its whole history in the end."""
    journal = tmp_path / "journal.jsonl"
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    earlier = tracker.open_trial(parent, trial_header(), journal_path=journal)
    for step in (1, 2):
        earlier.log({"val/mse": 1.0 / step}, step)
    later = tracker.open_trial(parent, trial_header(), journal_path=journal)
    for step in (2, 3, 1, 2, 3):
        later.log({"val/mse": 1.0 / step}, step)
    line.is_cut = False
    later.finish("FINISHED")
    assert _curve(connect(tracker.uri), later.run_id) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]


def test_an_outage_to_the_end_leaves_a_journal_and_a_warning(
    tracker: MlflowTracker, line: Line, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal.jsonl"
    model = tmp_path / "model.bin"
    model.write_text("weights")
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    log = tracker.open_trial(parent, trial_header(), journal_path=journal)
    log.log({"test/mse": 0.25}, 9)
    log.log_files({"model/weights.bin": model})
    with caplog.at_level(logging.WARNING):
        log.finish("FINISHED")
    assert f"3 records did not reach {tracker.uri} and are kept in {journal}" in caplog.text
    assert len(fetch_trials(tracker.uri, STUDY.name)) == 0

    assert not replay(journal, tracker)
    line.is_cut = False
    assert replay(journal, tracker)
    assert not journal.exists()
    trials = fetch_trials(tracker.uri, STUDY.name)
    assert trials["status"].tolist() == ["FINISHED"]
    assert trials["test/mse"].tolist() == [0.25]
    client = connect(tracker.uri)
    assert [file.path for file in client.list_artifacts(trials["run_id"][0], "model")] == ["model/weights.bin"]


def test_a_replayed_run_ended_when_its_trial_did(tracker: MlflowTracker, line: Line, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header(), journal_path=journal)
    line.is_cut = True
    log.finish("FAILED")
    ended = json.loads(journal.read_text().splitlines()[-1])["content"]["end_time"]
    line.is_cut = False
    assert replay(journal, tracker)
    run = connect(tracker.uri).get_run(log.run_id)
    assert (run.info.status, run.info.end_time) == ("FAILED", ended)


def test_two_that_deliver_for_one_trial_at_once_make_one_run(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's own process, of which a slow store keeps the answers, and the driver with its journal."""
    parent, folder = tracker.open_study(STUDY, {}), tmp_path / "trial"
    find_run = module.find_run

    def slow(*asked: Any) -> Any:
        found = find_run(*asked)
        time.sleep(0.5)
        return found

    monkeypatch.setattr(module, "find_run", slow)

    def deliver(_: int) -> str | None:
        return tracker.open_trial(parent, trial_header(), journal_path=folder / "journal.jsonl").run_id

    with ThreadPoolExecutor(3) as pool:
        runs = set(pool.map(deliver, range(3)))
    assert len(runs) == 1
    assert runs != {None}
    assert list(folder.iterdir()) == []


def test_a_folder_without_locks_is_a_warning(
    tracker: MlflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("prism_ray.tracking.run_lock.fcntl.flock", flock)
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header(), journal_path=tmp_path / "trial" / "a")
    assert log.run_id is not None
    assert "without a lock ([Errno 38]" in caplog.text


def test_an_outage_without_a_journal_is_a_warning(
    tracker: MlflowTracker, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    tracker.open_trial(parent, trial_header()).finish("FINISHED")
    assert "1 records did not reach" in caplog.text
    assert "are lost, as no journal was asked for" in caplog.text


def test_a_resumed_trial_delivers_what_its_last_process_could_not(
    tracker: MlflowTracker, line: Line, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    first = tracker.open_trial(parent, trial_header(), journal_path=journal)
    first.log({"val/mse": 1.0}, 1)
    first.finish("FAILED")
    line.is_cut = False
    second = tracker.open_trial(parent, trial_header(), journal_path=journal)
    client = connect(tracker.uri)
    assert _curve(client, second.run_id) == [(1, 1.0)]
    assert client.get_run(second.run_id).info.status == "RUNNING"
    assert not journal.exists()


def test_an_absent_tracker_is_not_asked_at_every_step(
    tracker: MlflowTracker, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 5.0)
    monkeypatch.setattr(module, "_LONGEST_WAIT_S", 8.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header())
    line.is_cut = True
    tried_at = []
    for _ in range(30):
        before = line.n_failed
        log.log({"val/mse": 1.0}, 1)
        if line.n_failed > before:
            tried_at.append(now[0])
        now[0] += 1.0
    assert tried_at == [100.0, 105.0, 113.0, 121.0, 129.0]


def test_a_journal_that_cannot_be_written_stops_nothing(
    tracker: MlflowTracker, line: Line, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    log = tracker.open_trial(parent, trial_header(), journal_path=tmp_path / "file" / "journal.jsonl")
    log.log({"val/mse": 1.0}, 1)
    assert "what the tracker could not take cannot be kept" in caplog.text
    line.is_cut = False
    log.log({"val/mse": 0.5}, 2)
    assert _curve(connect(tracker.uri), log.run_id) == [(1, 1.0), (2, 0.5)]


def test_a_journal_cut_off_in_its_last_line_is_read_up_to_it(
    tracker: MlflowTracker, line: Line, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal.jsonl"
    parent = tracker.open_study(STUDY, {})
    line.is_cut = True
    log = tracker.open_trial(parent, trial_header(), journal_path=journal)
    log.log({"val/mse": 1.0}, 1)
    log.log({"val/mse": 0.5}, 2)
    journal.write_text(journal.read_text()[:-20])
    line.is_cut = False
    assert replay(journal, tracker)
    assert fetch_trials(tracker.uri, STUDY.name)["val/mse"].tolist() == [1.0]
    assert "the last line is cut off" in caplog.text


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"journal": 2}', '{"journal": 1}\nbroken\n{}\n'])
def test_what_is_no_journal_is_refused(tracker: MlflowTracker, tmp_path: Path, content: str) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text(content)
    with pytest.raises(TrackingError, match=r"journal\.jsonl: is not a journal of a trial"):
        replay(journal, tracker)


def test_a_broken_journal_does_not_stop_a_trial(
    tracker: MlflowTracker, line: Line, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text("not json")
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header(), journal_path=journal)
    log.finish("FINISHED")
    assert fetch_trials(tracker.uri, STUDY.name)["status"].tolist() == ["FINISHED"]
    assert (tmp_path / "journal.jsonl.unreadable").read_text() == "not json"
    assert "is not a journal of a trial" in caplog.text


def test_metrics_of_an_outage_go_out_in_batches(
    tracker: MlflowTracker, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header())
    line.is_cut = True
    for step in range(700):
        log.log({"val/mse": 1.0, "train/loss": float(step)}, step)
    line.is_cut = False
    real = MlflowClient.log_batch

    def counting(client: MlflowClient, run_id: str, **content: Any) -> Any:
        sizes.append(len(content.get("metrics", ())))
        return real(client, run_id, **content)

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    assert log.deliver()
    assert sizes == [1000, 400]
    assert len(_curve(connect(tracker.uri), log.run_id, "train/loss")) == 700
