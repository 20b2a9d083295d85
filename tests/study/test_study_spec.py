"""A study's digest, its arms by name, and the settings of a proposal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prism_ray.config import RunConfig, patched
from prism_ray.errors import ConfigError
from prism_ray.study.search_spec import Objective, Search
from prism_ray.study.space import Choice, Condition, Dimension, IntRange, LogUniform, Subset, Uniform
from prism_ray.study.spec import Arm, Budget, Study

SPACE = (
    Dimension("model.n_states", IntRange(0, 8)),
    Dimension("data.window_bp", Choice((500, 4000, 1000))),
    Dimension("data.signals", Subset(("h3k27ac", "dnase", "hic"), 1)),
    Dimension("loss.alpha", Uniform(0, 2), Condition("model.n_states", at_least=1)),
    Dimension("optimizer.learning_rate", LogUniform(1e-4, 1e-2)),
)
VALUES: dict[str, Any] = {
    "model.n_states": 4,
    "data.window_bp": 1000,
    "data.signals": "h3k27ac+hic",
    "loss.alpha": 0.5,
    "optimizer.learning_rate": 1e-3,
}


def make_search(space: tuple[Dimension, ...] = SPACE) -> Study:
    return Study(
        name="made",
        path=Path("made.yaml"),
        question="?",
        claim="?",
        source="?",
        kind="search",
        baseline=RunConfig(),
        arms=(),
        baseline_arm=None,
        changes=(),
        curve=None,
        seeds=(2,),
        folds=("fold_1",),
        cell_types=("K562",),
        objective=Objective("val/mse", "minimize"),
        report_metric="test/mse",
        search=Search(space, "tpe", 10, 3, 0),
    )


def test_config_for_encoded_values() -> None:
    config = make_search().config_for(VALUES)
    expected = patched(
        RunConfig(),
        {
            "model.n_states": 4,
            "data.window_bp": 1000,
            "data.signals": ("h3k27ac", "hic"),
            "loss.alpha": 0.5,
            "optimizer.learning_rate": 1e-3,
            "seed": 2,
            "data.fold": "fold_1",
        },
        "",
    )
    assert config == expected
    assert make_search().config_for({**VALUES, "data.signals": ("h3k27ac", "hic")}) == expected


def test_config_for_a_stated_seed_fold_and_cell_type() -> None:
    config = make_search().config_for(VALUES, 22, "fold_3", "GM12878")
    assert (config.seed, config.data.fold, config.data.cell_type) == (22, "fold_3", "GM12878")


def test_a_setting_whose_condition_does_not_hold_keeps_its_baseline() -> None:
    values = {path: value for path, value in VALUES.items() if path != "loss.alpha"}
    assert make_search().config_for({**values, "model.n_states": 0}).loss.alpha == RunConfig().loss.alpha


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.n_states": 9}, "made.yaml: search.space.model.n_states: 9 is outside {'int_range'"),
        ({"model.n_states": 4.0}, "4.0 is outside"),
        ({"data.signals": "hic+h3k27ac"}, "outside"),
        ({"data.signals": "-"}, "outside"),
        ({"model.n_states": 0}, "loss.alpha: 0.5 is given where its condition does not hold"),
        ({"loss.alpah": 1.0}, "loss.alpah: is not searched.*Did you mean 'loss.alpha'"),
    ],
)
def test_values_that_are_not_of_the_space(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_search().config_for({**VALUES, **change})


def test_all_faults_of_a_proposal_together() -> None:
    with pytest.raises(ConfigError) as caught:
        make_search().config_for({"model.n_states": 99, "data.window_bp": 500})
    assert [fault.where.rsplit(": ", maxsplit=1)[-1] for fault in caught.value.faults] == [
        "search.space.model.n_states",
        "search.space.data.signals",
        "search.space.optimizer.learning_rate",
    ]


def test_search_extremes_cover_what_proposals_read() -> None:
    extremes = make_search().search_extremes()
    assert {config.data.window_bp for config in extremes} == {500, 4000, 1000}
    assert {config.data.signals for config in extremes} == {("h3k27ac", "dnase", "hic")}
    assert make_search(SPACE[:1]).search_extremes() == (RunConfig(),)


def test_digest_is_of_what_decides_numbers() -> None:
    study = make_search()
    search = study.search
    assert search is not None
    same = [
        replace(study, question="other", claim="other", source="other", path=Path("other.yaml")),
        replace(study, budget=Budget(3), report_metric="test/mae", curve="model.n_states"),
        replace(study, search=replace(search, n_trials=99)),
    ]
    assert {other.digest() for other in same} == {study.digest()}
    arm = Arm("n0", {}, "", RunConfig())
    different = [
        replace(study, name="other"),
        replace(study, seeds=(22,)),
        replace(study, folds=("fold_2",)),
        replace(study, cell_types=("GM12878",)),
        replace(study, objective=Objective("val/mae", "minimize")),
        replace(study, baseline=patched(RunConfig(), {"training.n_steps": 5}, "")),
        replace(study, search=replace(search, space=SPACE[1:])),
        replace(study, search=replace(search, seed=1)),
        replace(study, search=replace(search, sampler="random")),
        replace(study, arms=(arm,)),
        replace(study, arms=(replace(arm, config=patched(RunConfig(), {"model.d_state": 8}, "")),)),
    ]
    assert len({study.digest(), *(other.digest() for other in different)}) == len(different) + 1


def test_arm_by_name() -> None:
    study = replace(make_search(), arms=(Arm("n0", {}, "", RunConfig()),))
    assert study.arm("n0").name == "n0"
    with pytest.raises(ConfigError, match="has no arm 'n1'; use one of n0"):
        study.arm("n1")
