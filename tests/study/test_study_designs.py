"""Designs make the arms that they promise; expansion makes each trial once, pairs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.config import RunConfig, patched
from prism_ray.errors import ConfigError
from prism_ray.study.designs import (
    ArmPlan,
    add_one,
    expand,
    factorial,
    leave_one_out,
    proposed_trial,
    step_by_step,
    subsets,
)
from prism_ray.study.search_spec import Objective, Search
from prism_ray.study.space import Dimension, IntRange
from prism_ray.study.spec import Arm, Study

PARTS = [ArmPlan("dna", {"data.sequence": False}, "no DNA"), ArmPlan("states", {"model.n_states": 0}, "no states")]


def make_study(arms: dict[str, int], seeds: tuple[int, ...], folds: tuple[str, ...], cells: tuple[str, ...]) -> Study:
    baseline = RunConfig()
    made = [
        Arm(name, {"model.n_states": n}, "", patched(baseline, {"model.n_states": n}, "")) for name, n in arms.items()
    ]
    return Study(
        name="made",
        path=Path("made.yaml"),
        question="?",
        claim="?",
        source="?",
        kind="ablation",
        baseline=baseline,
        arms=tuple(made),
        baseline_arm=made[0].name,
        changes=("model.n_states",),
        curve=None,
        seeds=seeds,
        folds=folds,
        cell_types=cells,
        objective=Objective("val/mse", "minimize"),
        report_metric="test/mse",
    )


@given(st.integers(1, 6))
def test_leave_one_out_and_add_one_have_an_arm_more_than_parts(n_parts: int) -> None:
    parts = [ArmPlan(f"part{number}", {f"path{number}": number}, "why") for number in range(n_parts)]
    for design, prefix in ((leave_one_out, "without_"), (add_one, "with_")):
        arms = design(parts)
        assert len(arms) == n_parts + 1
        assert arms[0].patch == {}
        assert [(arm.name, arm.patch) for arm in arms[1:]] == [(f"{prefix}{part.name}", part.patch) for part in parts]


SETTINGS = [f"section.setting{number}" for number in range(5)]
PATCHES = st.lists(st.dictionaries(st.sampled_from(SETTINGS), st.integers(0, 3), min_size=1), min_size=1, max_size=6)


@given(PATCHES)
def test_a_path_adds_each_change_to_those_before(patches: list[dict[str, int]]) -> None:
    parts = [ArmPlan(f"part{number}", patch, "why") for number, patch in enumerate(patches)]
    arms = step_by_step(parts)
    assert len(arms) == len(parts) + 1
    assert [arm.name for arm in arms] == ["base", *(part.name for part in parts)]
    assert arms[0].patch == {}
    for before, part, after in zip(arms, parts, arms[1:], strict=False):
        # What a step gives holds, and all else stays as it was.
        assert {name: after.patch[name] for name in part.patch} == part.patch
        left = after.patch.keys() - part.patch.keys()
        assert left == before.patch.keys() - part.patch.keys()
        assert all(after.patch[name] == before.patch[name] for name in left)
    everything: dict[str, int] = {}
    for patch in patches:
        everything.update(patch)
    assert arms[-1].patch == everything
    assert step_by_step(parts) == arms


@given(st.lists(st.integers(2, 4), min_size=2, max_size=3))
def test_factorial_has_each_combination_once(sizes: list[int]) -> None:
    factors = {f"section.f{number}": tuple(range(size)) for number, size in enumerate(sizes)}
    arms = factorial(factors)
    expected = 1
    for size in sizes:
        expected *= size
    assert len(arms) == expected
    assert len({tuple(sorted(arm.patch.items())) for arm in arms}) == expected
    assert len({arm.name for arm in arms}) == expected


def test_factorial_names_say_their_levels() -> None:
    arms = factorial({"model.n_states": (0, 2), "data.signals": (("h3k27ac",), ("h3k27ac", "hic"))})
    assert [arm.name for arm in arms] == [
        "n_states-0__signals-h3k27ac",
        "n_states-0__signals-h3k27ac-hic",
        "n_states-2__signals-h3k27ac",
        "n_states-2__signals-h3k27ac-hic",
    ]
    assert arms[1].patch == {"model.n_states": 0, "data.signals": ("h3k27ac", "hic")}


def test_factorial_names_are_whole_paths_where_last_words_are_alike() -> None:
    arms = factorial({"a.rate": (0, 1), "b.rate": (True, False)})
    assert arms[0].name == "a-rate-0__b-rate-true"


def test_subsets_of_three() -> None:
    arms = subsets("data.signals", ("a", "b", "c"), 0)
    assert [arm.name for arm in arms] == ["none", "a", "b", "c", "a-b", "a-c", "b-c", "a-b-c"]
    assert arms[-1].patch == {"data.signals": ("a", "b", "c")}
    assert len(subsets("data.signals", ("a", "b", "c"), 2)) == 4


def made_by_design(kind: str, size: int) -> tuple[ArmPlan, ...]:
    """Arms of every design, `size` large, whose patches are settings that a run has."""
    layers = [ArmPlan(f"layers{number}", {"model.n_layers": number + 5}, "why") for number in range(size)]
    levels = tuple(range(1, size + 2))
    return {
        "leave_one_out": lambda: leave_one_out(layers),
        "add_one": lambda: add_one(layers),
        "path": lambda: step_by_step(layers),
        "factorial": lambda: factorial({"model.n_layers": levels, "model.d_state": levels}),
        "subsets": lambda: subsets("data.signals", tuple(f"track{number}" for number in range(size)), 0),
    }[kind]()


@given(
    kind=st.sampled_from(["leave_one_out", "add_one", "path", "factorial", "subsets"]),
    size=st.integers(1, 4),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
)
def test_every_design_gives_each_arm_the_same_seeds_and_no_trial_twice(kind: str, size: int, seeds: list[int]) -> None:
    plans = made_by_design(kind, size)
    assert plans == made_by_design(kind, size)
    n_arms = {"factorial": (size + 1) ** 2, "subsets": 2**size}.get(kind, size + 1)
    assert len({plan.name for plan in plans}) == len(plans) == n_arms
    arms = tuple(
        Arm(plan.name, plan.patch, plan.reason, patched(RunConfig(), {"model.n_states": 0, **plan.patch}, ""))
        for plan in plans
    )
    study = replace(make_study({"n0": 0, "n1": 1}, tuple(seeds), ("fold_1",), ("K562",)), arms=arms)
    trials = expand(study)
    assert len({trial.fingerprint for trial in trials}) == len(trials) == study.n_trials
    paired = {arm.name: [trial.seed for trial in trials if trial.arm == arm.name] for arm in arms}
    assert all(of_arm == seeds for of_arm in paired.values())
    assert expand(study) == trials


@given(
    n_arms=st.integers(2, 5),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    folds=st.lists(st.sampled_from(["fold_1", "fold_2", "fold_3"]), min_size=1, unique=True),
    cells=st.lists(st.sampled_from(["K562", "GM12878"]), min_size=1, unique=True),
)
def test_expand_is_complete_unique_paired_and_repeatable(
    n_arms: int, seeds: list[int], folds: list[str], cells: list[str]
) -> None:
    study = make_study({f"n{n}": n for n in range(n_arms)}, tuple(seeds), tuple(folds), tuple(cells))
    trials = expand(study)
    expected = {
        (arm.name, seed, fold, cell) for arm in study.arms for seed in seeds for fold in folds for cell in cells
    }
    assert {(t.arm, t.seed, t.fold, t.cell_type) for t in trials} == expected
    assert len(trials) == len(expected) == study.n_trials
    assert len({trial.name for trial in trials}) == len(trials)
    assert len({trial.fingerprint for trial in trials}) == len(trials)
    assert len({trial.trial_id("data") for trial in trials}) == len(trials)
    assert trials == expand(study)
    # Arms of one seed, fold and cell type are neighbours, and a seed is done before the next begins.
    for start in range(0, len(trials), n_arms):
        together = trials[start : start + n_arms]
        assert len({(t.seed, t.fold, t.cell_type) for t in together}) == 1
    order = [trial.seed for trial in trials]
    assert order == sorted(order, key=seeds.index)


def test_trials_of_two_arms_differ_in_the_arm_alone() -> None:
    study = make_study({"n0": 0, "n2": 2}, (2,), ("fold_1",), ("K562",))
    first, second = (trial.config.flat() for trial in expand(study))
    assert {path for path in first if first[path] != second[path]} == {"model.n_states"}


def test_trial_passes_through_the_settings_that_the_study_gives() -> None:
    trial = expand(make_study({"n0": 0, "n2": 2}, (7,), ("fold_3",), ("GM12878",)))[0]
    assert (trial.config.seed, trial.config.data.fold, trial.config.data.cell_type) == (7, "fold_3", "GM12878")
    assert trial.name == "n0-GM12878-fold_3-seed7"
    assert RunConfig.model_validate(trial.config.model_dump()) == trial.config


def make_search() -> Study:
    base = make_study({"n0": 0, "n2": 2}, (2,), ("fold_1",), ("K562",))
    space = (Dimension("model.n_states", IntRange(0, 4)),)
    fields = {**base.__dict__, "kind": "search", "arms": (), "baseline_arm": None, "changes": ()}
    return Study(**{**fields, "search": Search(space, "random", 3, 1, 0)})


def test_a_search_has_no_fixed_trials() -> None:
    with pytest.raises(ConfigError, match="proposed while it runs"):
        expand(make_search())


def test_proposals_of_the_same_values_are_the_same_trial() -> None:
    study = make_search()
    one, again, other = (proposed_trial(study, {"model.n_states": n}) for n in (3, 3, 4))
    assert one == again
    assert one.name == again.name
    assert one.name != other.name
    assert one.config.model.n_states == 3
    assert (one.config.seed, one.config.data.fold) == (2, "fold_1")
