"""A searcher's database that somebody else holds locked, for a while or for too long: SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest

from prism_ray.cli.running import launch
from prism_ray.distributed import search_storage, study_run
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.search_storage import open_storage
from prism_ray.distributed.study_run import run_study
from prism_ray.errors import SearchDatabaseError
from prism_ray.tracking import fetch_study, fetch_trials
from tests.distributed.conftest import TINY, Told, tiny_study
from tests.distributed.test_kill_services import Acts

Lock = Callable[[], AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Database:
    """A database of its own, and what locks it as another process would."""

    url: str
    lock: Lock


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a second in place of minutes."""
    monkeypatch.setattr(search_storage, "_LOCK_WAIT_S", 1)
    monkeypatch.setattr(search_storage, "_PAUSE_S", 0.05)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        file = tmp_path / "proposals.db"
        yield Database(f"sqlite:///{file}", lambda: sqlite_lock(file))
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database(f"locks_{uuid.uuid4().hex}")
    yield Database(url, lambda: postgres_lock(url))


@contextmanager
def sqlite_lock(file: Path) -> Iterator[None]:
    other = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@contextmanager
def postgres_lock(url: str) -> Iterator[None]:
    import psycopg2

    other = psycopg2.connect(url.replace("+psycopg2", ""))
    other.cursor().execute("LOCK TABLE trials, studies, version_info, alembic_version IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


def test_a_lock_is_waited_for_and_nothing_is_asked_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = optuna.create_study(storage=open_storage(database.url), study_name="one")
    refused = threading.Event()
    monkeypatch.setattr(search_storage.time, "sleep", lambda s: refused.set())
    lock = database.lock()
    lock.__enter__()

    def release() -> None:
        assert refused.wait(30)
        lock.__exit__(None, None, None)

    releasing = threading.Thread(target=release)
    releasing.start()
    trial = study.ask()
    releasing.join()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, 0.5)
    assert [one.value for one in study.get_trials()] == [0.5], "the proposal that waited is the only one"
    assert "it is asked again for 120 s" in caplog.text


@pytest.mark.parametrize("opened", [False, True])
def test_a_lock_that_is_held_too_long_is_named(
    database: Database, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_storage, "PATIENCE_S", 0.2)
    study = optuna.create_study(storage=open_storage(database.url), study_name="one")
    ask = study.ask if opened else lambda: open_storage(database.url)
    with database.lock(), pytest.raises(SearchDatabaseError) as refused:
        ask()
    assert str(refused.value).startswith("searcher's database ")
    assert "does not take what it is told for 0.2 s" in str(refused.value)
    assert study.get_trials() == []


def test_what_is_wrong_is_not_asked_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(storage=open_storage(database.url), study_name="one")
    trial = study.ask()
    study.tell(trial, 0.5)
    monkeypatch.setattr(search_storage.time, "sleep", lambda s: pytest.fail("it waits"))
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(storage=open_storage(database.url), study_name="one")
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr("name", 1)


@pytest.mark.ray
def test_a_search_whose_database_stays_locked_ends_and_goes_on_later(
    database: Database,
    simulated_store: Path,
    settings: StudySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    search = {"space": {"model.n_states": {"int_range": [0, 4]}}, "sampler": "random", "n_trials": 3, "seed": 1}
    without: dict[str, Any] = {"baseline_arm": None, "changes": None, "arms": None, "curve": None, "seeds": [2]}
    study = tiny_study(tmp_path, kind="search", search=search, baseline=TINY, **without)
    there = dataclasses.replace(settings, backend=InProcessBackend(), search_database=database.url)
    monkeypatch.setattr(search_storage, "PATIENCE_S", 0.2)
    lock = database.lock()
    told = Acts(at_2=lambda: lock.__enter__())
    monkeypatch.setattr(study_run, "run_study", lambda study, settings, progress: run_study(study, settings, told))
    with pytest.raises(SearchDatabaseError, match="does not take what it is told"):
        launch(study, there)  # the command ends with 2 then, as for all that a user can mend
    lock.__exit__(None, None, None)
    assert len(told.labels("started")) == len(told.labels("finished")) == 2, "what ran has ended, and none was started"
    assert fetch_study(there.tracking_uri, "tiny").status == "KILLED"

    again = Told()
    outcome = run_study(study, there, again)
    assert (outcome.n_finished, outcome.exit_code, outcome.failures) == (3, 0, {})
    assert again.labels("started") & told.labels("finished") <= {told.events[-1][1]}
    trials = fetch_trials(there.tracking_uri, "tiny")
    assert (len(trials), set(trials["status"])) == (3, {"FINISHED"})
    assert trials["trial_id"].is_unique
