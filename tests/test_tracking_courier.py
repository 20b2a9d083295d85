"""Delivery from a thread: training never waits, order is kept, nothing is lost when a process ends."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from prism_ray.errors import TrackingError
from prism_ray.tracking import MlflowTracker, deliver_journals, fetch_trials, wait_for_deliveries, with_credentials
from prism_ray.tracking import deliveries as deliveries_module
from prism_ray.tracking import mlflow_trial as module
from prism_ray.tracking.client import connect
from prism_ray.tracking.courier import Courier
from prism_ray.tracking.mlflow_trial import MlflowTrialLog
from tests.conftest import REPOSITORY
from tests.tracking_support import STUDY, fresh_store, trial_header

LONG_S = 30.0


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


@pytest.fixture
def parent(uri: str) -> str:
    return MlflowTracker(uri).open_study(STUDY, {})


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Every connection to the store waits until this is set."""
    gate = threading.Event()

    def connect_later(uri: str) -> MlflowClient:
        assert gate.wait(LONG_S)
        return connect(uri)

    monkeypatch.setattr(module, "connect", connect_later)
    return gate


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class Notes:
    """Deliveries that note that they were called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def delivery(self, name: str, act: Callable[[], object] = lambda: None) -> Callable[[], None]:
        def deliver() -> None:
            self.called.append(name)
            act()

        return deliver


def test_what_is_asked_for_many_times_is_delivered_in_few_goes() -> None:
    notes, courier = Notes(), Courier(pause_s=60.0)
    delivery = notes.delivery("a")
    courier.visit(delivery)
    wait_until(lambda: notes.called == ["a"])
    for _ in range(100):
        courier.visit(delivery)
    assert courier.flush(LONG_S)
    # One at once, and one for all that was asked for in its pause.
    assert notes.called == ["a", "a"]


def test_a_pause_ends() -> None:
    notes, courier = Notes(), Courier(pause_s=0.05)
    delivery = notes.delivery("a")
    courier.visit(delivery)
    wait_until(lambda: notes.called == ["a"])
    courier.visit(delivery)
    wait_until(lambda: notes.called == ["a", "a"])


def test_what_is_wanted_at_once_comes_in_order_and_before_what_pauses() -> None:
    notes, courier = Notes(), Courier(pause_s=60.0)
    busy = threading.Event()
    slow = notes.delivery("slow", lambda: busy.wait(LONG_S))
    courier.visit(slow, at_once=True)
    wait_until(lambda: notes.called == ["slow"])
    courier.visit(slow)
    for name in "abc":
        courier.visit(notes.delivery(name), at_once=True)
    busy.set()
    assert courier.flush(LONG_S)
    assert notes.called == ["slow", "a", "b", "c", "slow"]


def test_a_delivery_that_fails_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    notes, courier = Notes(), Courier()

    def fail() -> None:
        raise RuntimeError("a fault of ours")

    courier.visit(notes.delivery("a", fail), at_once=True)
    courier.visit(notes.delivery("b"), at_once=True)
    with caplog.at_level(logging.ERROR):
        assert courier.flush(LONG_S)
    assert notes.called == ["a", "b"]
    assert "a fault of ours" in caplog.text


def test_waiting_for_a_courier_is_bounded() -> None:
    courier, busy = Courier(), threading.Event()
    courier.visit(lambda: busy.wait(LONG_S))
    assert not courier.flush(0.05)
    busy.set()
    assert courier.flush(LONG_S)


def test_training_does_not_wait_for_a_store_that_hangs(
    uri: str, parent: str, gate: threading.Event, tmp_path: Path
) -> None:
    courier, journals = Courier(), [tmp_path / f"{seed}.jsonl" for seed in (2, 22)]
    weights = tmp_path / "weights.bin"
    weights.write_text("weights")
    started = time.monotonic()
    for seed, journal in zip((2, 22), journals, strict=True):
        log = MlflowTrialLog(uri, parent, trial_header(seed=seed), journal, courier)
        for step in range(1, 401):
            log.log({"train/loss": 1.0 / step, "val/mse": float(seed)}, step)
        log.log_files({"model/weights.bin": weights})
        log.finish("FINISHED")
        # What could be lost with this process is in the file before the next trial begins.
        assert journal.exists()
    assert time.monotonic() - started < LONG_S, "it waited for the gate"
    gate.set()
    assert courier.flush(LONG_S)
    assert wait_for_deliveries(journals, 0.0) == []
    trials = fetch_trials(uri, STUDY.name)
    assert trials["status"].tolist() == ["FINISHED"] * 2
    assert sorted(trials["val/mse"]) == [2.0, 22.0]
    client = connect(uri)
    for run_id in trials["run_id"]:
        steps = [point.step for point in client.get_metric_history(run_id, "train/loss")]
        assert steps == list(range(1, 401))
        assert [file.path for file in client.list_artifacts(run_id, "model")] == ["model/weights.bin"]


def test_steps_go_out_together(uri: str, parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = MlflowClient.log_batch

    def counting(client: MlflowClient, run_id: str, **content: Any) -> Any:
        sizes.append(len(content.get("metrics", ())))
        return real(client, run_id, **content)

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    courier = Courier(pause_s=60.0)
    log = MlflowTrialLog(uri, parent, trial_header(), None, courier)
    assert courier.flush(LONG_S)
    sizes.clear()
    for step in range(200):
        log.log({"val/mse": float(step)}, step)
    log.set_tags({"prism.note": "all of it"})
    assert courier.flush(LONG_S)
    assert sizes == [200]
    assert connect(uri).get_run(log.run_id).data.tags["prism.note"] == "all of it"


def test_a_value_that_is_refused_takes_no_other_with_it(
    uri: str, parent: str, caplog: pytest.LogCaptureFixture
) -> None:
    courier = Courier(pause_s=60.0)
    log = MlflowTrialLog(uri, parent, trial_header(), None, courier)
    for step in range(3):
        log.log({"val/mse": float(step)}, step)
        log.log({"val/bad#name": 1.0}, step)
    log.finish("FINISHED")
    assert courier.flush(LONG_S)
    client = connect(uri)
    assert [point.step for point in client.get_metric_history(log.run_id, "val/mse")] == [0, 1, 2]
    assert caplog.text.count("the tracker refused 1 records") == 3
    assert client.get_run(log.run_id).info.status == "FINISHED"


class NoCourier(Courier):
    """A process that dies before its courier's first delivery."""

    def visit(self, delivery: Callable[[], object], *, at_once: bool = False) -> None:
        """Nothing is delivered."""


def left_journals(uri: str, parent: str, folder: Path) -> list[Path]:
    """Journals of two trials whose process died when they had just ended."""
    journals = [folder / f"{seed}.jsonl" for seed in (2, 22)]
    for seed, journal in zip((2, 22), journals, strict=True):
        log = MlflowTrialLog(uri, parent, trial_header(seed=seed), journal, NoCourier())
        log.log({"val/mse": float(seed)}, 1)
        log.finish("FINISHED")
    return journals


def test_what_a_dead_process_left_is_delivered_by_another(uri: str, parent: str, tmp_path: Path) -> None:
    journals = left_journals(uri, parent, tmp_path)
    assert wait_for_deliveries([*journals, tmp_path / "never.jsonl"], 0.2) == journals
    done = deliver_journals(journals)
    assert (done.n_delivered, dict(done.left)) == (2, {})
    assert not any(journal.exists() for journal in journals)
    trials = fetch_trials(uri, STUDY.name)
    assert trials["status"].tolist() == ["FINISHED"] * 2
    assert sorted(trials["val/mse"]) == [2.0, 22.0]


def test_what_its_own_process_delivers_meanwhile_is_delivered(uri: str, parent: str, tmp_path: Path) -> None:
    first, second = left_journals(uri, parent, tmp_path)

    def found() -> Iterator[Path]:
        yield first
        second.unlink()
        yield second

    done = deliver_journals(found())
    assert (done.n_delivered, dict(done.left)) == (2, {})


def test_a_store_that_is_away_is_asked_once(
    uri: str, parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = left_journals(uri, parent, tmp_path)
    asked = []

    def away(uri: str) -> None:
        asked.append(uri)
        raise TrackingError("nobody answers")

    monkeypatch.setattr(deliveries_module, "prepare", away)
    done = deliver_journals(journals)
    assert done.left == dict.fromkeys(journals, "nobody answers")
    assert asked == [uri]
    assert all(journal.exists() for journal in journals)


def test_another_store_or_a_file_that_is_no_journal_is_said(uri: str, parent: str, tmp_path: Path) -> None:
    journals = left_journals(uri, parent, tmp_path)
    (tmp_path / "other").mkdir()
    broken = tmp_path / "broken.jsonl"
    broken.write_text("nonsense")
    done = deliver_journals([journals[0], broken], fresh_store(tmp_path / "other"))
    assert "is it the one that the trial was tracked in?" in done.left[journals[0]]
    assert "is not a journal of a trial" in done.left[broken]
    assert journals[0].exists()
    assert broken.exists()


@pytest.mark.parametrize(
    ("shown", "environment", "given", "expected"),
    [
        ("http://host:5000", "", None, "http://host:5000"),
        ("http://host:5000", "http://other:5000", None, "http://host:5000"),
        ("http://host:5000", "", "http://other:1", "http://other:1"),
        ("https://***@host", "https://me:secret@host", None, "https://me:secret@host"),
        ("https://***@host", "", "https://me:secret@host", "https://me:secret@host"),
        ("https://***@host", "https://me:secret@other", None, "needs a user and a password, which are kept in no file"),
        ("https://***@host", "", None, "set MLFLOW_TRACKING_URI to its whole address, or give --tracking-uri"),
    ],
)
def test_credentials_come_from_the_environment(
    shown: str, environment: str, given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    if expected.startswith("http"):
        assert with_credentials(shown, given) == expected
    else:
        with pytest.raises(TrackingError, match=expected):
            with_credentials(shown, given)


ENDS_AT_ONCE = """
import sys
from pathlib import Path
from prism_ray.tracking import MlflowTracker
from tests.tracking_support import trial_header
uri, parent, journal = sys.argv[1:]
log = MlflowTracker(uri, background=True).open_trial(parent, trial_header(), journal_path=Path(journal))
log.log({"val/mse": 0.25}, 1)
log.finish("FINISHED")
"""


def test_a_process_that_ends_delivers_first(uri: str, parent: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-c", ENDS_AT_ONCE, uri, parent, str(journal)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not journal.exists()
    trials = fetch_trials(uri, STUDY.name)
    assert (trials["status"].item(), trials["val/mse"].item()) == ("FINISHED", 0.25)
