"""Every predefined study at its smoke scale, in this process, in one workspace: what two studies share is run once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.study_run import run_study
from prism_ray.report.build import write_report
from prism_ray.study.load import load_study
from tests.conftest import REPOSITORY
from tests.distributed.conftest import Told, study_settings

# `real_modalities` needs the store of docs/real-data.md.
FILES = [path for path in sorted((REPOSITORY / "search_spaces").glob("*.yaml")) if path.stem != "real_modalities"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def workspace(simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> StudySettings:
    settings = study_settings(simulated_store, tmp_path_factory.mktemp("smoke"))
    return replace(settings, backend=InProcessBackend())


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_runs_and_is_reported(file: Path, workspace: StudySettings) -> None:
    # Fewer steps than the smoke scale's own 20 to 40, and than those of `smoke`, which `make demo` runs in full.
    study = load_study(file, smoke=True, overrides={"training.n_steps": 10})
    outcome = run_study(study, workspace, Told())
    assert outcome.failures == {}
    assert outcome.n_left == 0
    assert outcome.n_finished + outcome.n_pruned == outcome.n_trials
    report = write_report(workspace.tracking_uri, study.name, workspace.storage / "reports" / study.name)
    assert report.header.question == study.question
    assert report.html.stat().st_size > 10_000
    assert len(report.table)
