"""Catalogs that were changed, and studies that train in seconds on the simulated store."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import prism_ray.store
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.study.designs import expand
from prism_ray.study.load import load_study
from prism_ray.study.spec import Study
from prism_ray.training.record import TrialRecord, read_record
from tests.tracking_support import fresh_store

TINY = {
    "data.window_bp": 256,
    "model.d_model": 8,
    "model.n_layers": 1,
    "model.d_state": 4,
    "model.n_states": 0,
    "training.n_steps": 6,
    "training.batch_size": 8,
    "training.precision": "float32",
    "optimizer.learning_rate": 5.0e-3,
}


@pytest.fixture
def edited(simulated_catalog: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """A copy of the data set whose catalog has been changed."""

    def edit(change: Callable[[dict[str, Any]], object]) -> Path:
        folder = Path(shutil.copytree(simulated_catalog.parent, tmp_path / "edited"))
        catalog = yaml.safe_load((folder / "catalog.yaml").read_text())
        change(catalog)
        (folder / "catalog.yaml").write_text(yaml.safe_dump(catalog, sort_keys=False))
        return folder / "catalog.yaml"

    return edit


class Told:
    """Keeps what a study's progress was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.networks: list[str] = []
        self.remarks: list[str] = []

    def announce(self, networks: Sequence[str]) -> None:
        self.networks = list(networks)

    def begin(self, n_trials: int, n_found: int) -> None:
        self.events.append(("begin", f"{n_trials} {n_found}"))

    def started(self, label: str) -> None:
        self.events.append(("started", label))

    def finished(self, label: str, metrics: Mapping[str, Any]) -> None:
        self.events.append(("finished", label))

    def failed(self, label: str, reason: str) -> None:
        self.events.append(("failed", label))

    def interrupted(self, label: str, reason: str) -> None:
        self.events.append(("interrupted", label))

    def pruned(self, label: str, how: str) -> None:
        self.events.append(("pruned", label))

    def remark(self, text: str) -> None:
        self.remarks.append(text)

    def beside_reads(self) -> list[str]:
        """Remarks but those on what nodes have read."""
        return [text for text in self.remarks if not text.startswith("store: ")]

    def labels(self, kind: str) -> set[str]:
        return {label for event, label in self.events if event == kind}


def tiny_study(folder: Path, *, name: str = "tiny", **changes: Any) -> Study:
    """A study from a patch on a tiny one, read from a file as a user's would be."""
    content: dict[str, Any] = {
        "question": "Does it run?",
        "claim": "It does.",
        "source": "tests",
        "kind": "ablation",
        "baseline": TINY,
        "baseline_arm": "n0",
        "changes": ["model.n_states"],
        "arms": {
            "n0": {"patch": {}, "reason": "plain"},
            "n2": {"patch": {"model.n_states": 2}, "reason": "two states"},
        },
        "curve": "model.n_states",
        "seeds": [2, 22],
        "folds": ["fold_1"],
        "cell_types": ["K562"],
        "objective": {"metric": "val/mse", "direction": "minimize"},
        "report_metric": "test/mse",
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
    return load_study(path)


def study_settings(store: Path, folder: Path) -> StudySettings:
    """Where a study runs: a storage folder that is not there yet, and an empty tracking store."""
    # Beside the storage, which a study that is refused must not have made.
    tracked = folder / "tracked"
    tracked.mkdir()
    return StudySettings(
        store=store,
        storage=folder / "results",
        tracking_uri=fresh_store(tracked),
        command="prism-ray run tiny",
        # Starting a second process of trials takes longer than many tiny trials do.
        max_concurrent=1,
    )


def study_records(study: Study, settings: StudySettings) -> dict[str, TrialRecord]:
    """Records of all trials of a study that has run, by the trial's name."""
    digest = prism_ray.store.open(settings.store).digest
    found = {}
    for trial in expand(study):
        record = read_record(settings.storage / "trials" / trial.trial_id(digest))
        assert record is not None, trial.name
        found[trial.name] = record
    return found


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    return functools.partial(tiny_study, tmp_path)


@pytest.fixture
def settings(simulated_store: Path, tmp_path: Path) -> StudySettings:
    return study_settings(simulated_store, tmp_path)
