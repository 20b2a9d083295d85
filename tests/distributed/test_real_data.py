"""The real ENCODE tracks, small: build their store, find the known numbers in it, run the study's smoke scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import prism_ray.store
from prism_ray.distributed import build
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.study_run import run_study
from prism_ray.metrics import regression_metrics
from prism_ray.study.load import load_study
from prism_ray.tracking import default_tracking_uri, fetch_trials
from tests.conftest import REPOSITORY
from tests.distributed.conftest import Told
from tests.distributed.inline_partitions import without_ray

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_store(real_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "store"
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        report = build.build_store(REPOSITORY / "benchmarks" / "real_data" / "catalog.yaml", out)
    # Tracks of peaks have no value between these; nothing else is suspicious.
    (warning,) = report.warnings
    assert warning.startswith("K562: more than 20 % of the bases have no value")
    return out


def test_least_squares_on_the_store_gives_the_known_numbers(real_store: Path) -> None:
    """r 0.776 and MSE 0.236 on fold_11's 1,097 test genes; computed from the raw tracks elsewhere."""
    store = prism_ray.store.open(real_store)
    arrays = store.load(2000, ("h3k27ac", "dnase", "h3k4me3"), "K562", sequence=False, scalars=())
    assert len(arrays) == 17_603
    split = store.folds.split("fold_11", arrays.chrom)
    assert len(split.test) == 1097
    levels = np.log10(arrays.signals.mean(axis=1, dtype=np.float64) + 0.01)
    design = np.column_stack([np.ones(len(levels)), levels])
    rows = np.concatenate([split.train, split.validation])
    weights, *_ = np.linalg.lstsq(design[rows], arrays.label[rows], rcond=None)
    metrics = regression_metrics(design[split.test] @ weights, arrays.label[split.test])
    assert metrics["pearson_r"] == pytest.approx(0.776, abs=0.001)
    assert metrics["mse"] == pytest.approx(0.236, abs=0.001)


def test_the_study_runs_on_it_at_smoke_scale(real_store: Path, tmp_path: Path) -> None:
    study = load_study(REPOSITORY / "search_spaces" / "real_modalities.yaml", smoke=True)
    settings = StudySettings(real_store, tmp_path, default_tracking_uri(tmp_path), backend=InProcessBackend())
    outcome = run_study(study, settings, Told())
    assert outcome.failures == {}
    trials = fetch_trials(settings.tracking_uri, study.name)
    assert set(trials["arm"]) == {"all_n0", "h3k27ac_n0", "all_n2"}
    assert set(trials["status"]) == {"FINISHED"}
    # Twelve steps of a tiny network: better than the mean of the label is all that can be asked.
    assert trials.set_index("arm").loc["all_n0", "test/pearson_r"] > 0.3
