"""Every study of search_spaces/: loads at both scales, and its arms differ in what they say and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from prism_ray.config import RunConfig
from prism_ray.study.designs import expand
from prism_ray.study.load import load_study
from prism_ray.study.spec import Study
from prism_ray.study.store_check import check_against_store
from tests.conftest import REPOSITORY

FILES = sorted((REPOSITORY / "search_spaces").glob("*.yaml"))
PUBLISHED_SEEDS = (2, 22, 222, 2222, 22222)
SIMULATED = SimpleNamespace(
    signals=("h3k27ac", "dnase", "hic"),
    window_bp=8000,
    cell_types=("K562", "GM12878"),
    folds=SimpleNamespace(names=tuple(f"fold_{number}" for number in range(1, 9))),
    has_sequence=True,
    scalar_names=("utr5_len", "promoter_activity"),
    signals_of=lambda cell_type: ("h3k27ac", "dnase", "hic"),
)


def named(path: Path) -> str:
    return path.stem


@pytest.fixture(params=FILES, ids=named)
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(params=[False, True], ids=["full", "smoke"])
def study(file: Path, request: pytest.FixtureRequest) -> Study:
    return load_study(file, smoke=request.param)


def test_the_studies_of_the_spine_are_there() -> None:
    assert {"smoke", "confounder_count", "joint_search"} <= {path.stem for path in FILES}


def test_header_and_index(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert f"({file.name})" in (REPOSITORY / "search_spaces" / "README.md").read_text()


# Why a study declares no claim about its arms: its claim names none, its arms are not known before, or two effects mix.
WITHOUT_CLAIMS = {"smoke", "cross_cell", "joint_search", "joint_search_cost", "known_truth"}


def test_a_claim_about_arms_is_declared_before_the_runs(file: Path) -> None:
    claimed = load_study(file).expectations
    assert bool(claimed) == (file.stem not in WITHOUT_CLAIMS)
    for one in claimed:
        assert one.margin is not None or one.to_be != "same"


def test_arms_differ_from_the_baseline_arm_in_declared_settings_only(study: Study) -> None:
    if study.search is not None:
        return
    assert study.baseline_arm is not None
    reference = study.arm(study.baseline_arm).config.flat()
    for arm in study.arms:
        settings = arm.config.flat()
        changed = {path for path in settings if settings[path] != reference[path]}
        assert changed <= set(study.changes)
        assert bool(changed) == (arm.name != study.baseline_arm)
        assert set(arm.patch) <= set(study.changes)


def test_trials_are_valid_unique_and_within_budget(study: Study) -> None:
    if study.search is not None:
        return
    trials = expand(study)
    assert len(trials) == study.n_trials
    assert len({trial.name for trial in trials}) == len(trials)
    assert len({trial.trial_id("data") for trial in trials}) == len(trials)
    for trial in trials:
        assert RunConfig.model_validate(trial.config.model_dump()) == trial.config


def test_smoke_scale_is_small_and_runs_on_the_simulated_store(file: Path) -> None:
    study = load_study(file, smoke=True)
    if "real" in file.stem:
        # Its signals are those of real tracks, which the simulated genome does not have.
        study = Study(**{**study.__dict__, "folds": ("fold_1",)})
        signals = _signals(study)
        simulated = SimpleNamespace(
            **{**SIMULATED.__dict__, "signals": signals, "signals_of": lambda cell_type: signals}
        )
    else:
        simulated = SIMULATED
    check_against_store(study, simulated)
    assert study.n_trials <= 16
    configs = [arm.config for arm in study.arms] or [study.baseline]
    assert all(config.training.n_steps <= 400 for config in configs)
    assert all(config.training.precision == "float32" for config in configs)


def _signals(study: Study) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for arm in study.arms for name in arm.config.data.signals))


def test_confounder_count_follows_the_published_protocol() -> None:
    study = load_study(REPOSITORY / "search_spaces" / "confounder_count.yaml")
    assert [arm.config.model.n_states for arm in study.arms] == [0, 1, 2, 4, 8]
    assert (study.seeds, study.folds, study.cell_types) == (PUBLISHED_SEEDS, ("fold_11",), ("K562",))
    for arm in study.arms:
        # Nothing but n differs from the defaults, which are the published settings.
        flat, published = arm.config.flat(), RunConfig().flat()
        assert {path for path in flat if flat[path] != published[path]} <= {"model.n_states"}
        assert (flat["training.n_steps"], flat["training.batch_size"]) == (50_000, 8)


def test_joint_search_varies_states_window_and_signals() -> None:
    for smoke in (False, True):
        study = load_study(REPOSITORY / "search_spaces" / "joint_search.yaml", smoke=smoke)
        assert study.search is not None
        searched = {dimension.path for dimension in study.search.space}
        assert {"model.n_states", "data.window_bp", "data.signals"} <= searched
