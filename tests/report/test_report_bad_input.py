"""What cannot be reported, each with its own named error or plain statement, and never with an empty picture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.errors import InputError, PrismRayError, TrackingError
from prism_ray.report.build import write_report
from prism_ray.tracking import MlflowTracker, TrialHeader
from prism_ray.tracking.client import connect
from prism_ray.tracking.predictions import PREDICTIONS_NAME
from tests.conftest import REPOSITORY
from tests.tracking_support import STUDY, fresh_store, track_study, trial_header

HEADER = replace(STUDY, n_trials=4)
Runs = list[tuple[TrialHeader, dict[str, float], str]]


def runs(**changes: object) -> Runs:
    """Four finished trials, of which the last has other `changes` in its header."""
    headers = [trial_header(arm, seed, study=HEADER) for arm in HEADER.arms for seed in HEADER.seeds]
    headers[-1] = replace(headers[-1], **changes)  # type: ignore[arg-type]
    return [(header, {"test/mse": 0.2}, "FINISHED") for header in headers]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return fresh_store(tmp_path / "store")


def unknown_study(uri: str) -> str:
    track_study(uri, HEADER, runs())
    return "confounder_cuont"


def never_run(uri: str) -> str:
    return HEADER.name


def never_launched(uri: str) -> str:
    connect(uri).create_experiment(HEADER.name, tags={"prism.study": HEADER.name})
    return HEADER.name


def foreign_experiment(uri: str) -> str:
    client = connect(uri)
    client.create_run(client.create_experiment(HEADER.name))
    return HEADER.name


def deleted_experiment(uri: str) -> str:
    track_study(uri, HEADER, runs())
    client = connect(uri)
    experiment = client.get_experiment_by_name(HEADER.name)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    return HEADER.name


def unknown_launch(uri: str) -> str:
    track_study(uri, HEADER, runs())
    return f"{HEADER.name}@zzzz"


def mixed_data(uri: str) -> str:
    track_study(uri, HEADER, runs(data_digest="e" * 64))
    return HEADER.name


def mixed_versions(uri: str) -> str:
    track_study(uri, HEADER, runs(tags={"prism.results_version": "2"}))
    return HEADER.name


def mixed_both(uri: str) -> str:
    track_study(uri, HEADER, runs(data_digest="e" * 64, tags={"prism.results_version": "2"}))
    return HEADER.name


def damaged_predictions(uri: str) -> str:
    parent = track_study(uri, HEADER, runs())
    log = MlflowTracker(uri).open_trial(parent, runs()[0][0])
    file = Path(uri.removeprefix("sqlite:///")).parent / PREDICTIONS_NAME
    file.write_bytes(b"no table")
    log.log_files({PREDICTIONS_NAME: file})
    log.finish("FINISHED")
    return HEADER.name


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (unknown_study, TrackingError, "has no study 'confounder_cuont'; use one of confounder_count. Did you mean"),
        (never_run, TrackingError, "has no study 'confounder_count'; it holds no study yet; run one first"),
        (never_launched, TrackingError, "study 'confounder_count' was never launched; run it first"),
        (foreign_experiment, TrackingError, "experiment 'confounder_count' was not made by prism-ray; name a study of"),
        (deleted_experiment, TrackingError, "experiment 'confounder_count' was deleted; restore it in the MLflow UI"),
        (unknown_launch, TrackingError, "study 'confounder_count' has no launch 'zzzz'; it has "),
        (mixed_data, InputError, "study confounder_count: its trials come from 2 data digests: bbbbbbbbbbbb, eeeeeeee"),
        (
            mixed_versions,
            InputError,
            "study confounder_count: its trials come from 2 results versions: 1, 2; their num",
        ),
        (mixed_both, InputError, "2 faults:\n  study confounder_count: its trials come from 2 data digests: bbbbbbb"),
        (damaged_predictions, TrackingError, f"its {PREDICTIONS_NAME} cannot be read ("),
    ],
)
def test_it_is_refused_by_name_and_nothing_is_written(
    make: Callable[[str], str], error: type[PrismRayError], message: str, uri: str, tmp_path: Path
) -> None:
    study = make(uri)
    with pytest.raises(error) as caught:
        write_report(uri, study, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("uri_of", "message"),
    [
        (lambda folder: f"sqlite:///{folder}/absent/mlflow.db", "does not exist; run a study first"),
        (lambda folder: "http://127.0.0.1:9", "http://127.0.0.1:9: cannot be reached"),
        (lambda folder: "http://someone:secret@127.0.0.1:9", "cannot be reached"),
    ],
)
def test_a_store_that_is_not_there_is_named(uri_of: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as caught:
        write_report(uri_of(tmp_path), HEADER.name, tmp_path / "out")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_mixture_is_reported_where_it_is_asked_for(uri: str, tmp_path: Path) -> None:
    study = mixed_both(uri)
    notes = " ".join(write_report(uri, study, tmp_path / "out", mixed=True).notes)
    assert "The trials come from 2 data digests: bbbbbbbbbbbb, eeeeeeeeeeee." in notes
    assert "The trials come from 2 results versions: 1, 2." in notes


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_no_finished_trial_is_a_statement_and_no_picture(status: str, uri: str, tmp_path: Path) -> None:
    track_study(uri, HEADER, [(trial_header("n0", 2, study=HEADER), {}, status)], status="RUNNING")
    result = write_report(uri, HEADER.name, tmp_path / "out")
    assert "No trial has finished with a value of test/mse: there is nothing to compare yet." in result.notes
    assert "<svg" not in result.html.read_text()
    assert not (tmp_path / "out" / "figures").exists()


def test_a_file_in_place_of_the_folder_is_refused(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: is a file; give a folder with --out"):
        write_report(uri, HEADER.name, tmp_path / "file")


@pytest.mark.slow
def test_wrong_input_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from prism_ray.cli import main; sys.exit(main())"]
    command += ["report", "absent", "--storage", str(tmp_path / "storage")]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, env=environment)
    assert done.returncode == 2
    assert "does not exist; run a study first" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "storage").exists()
