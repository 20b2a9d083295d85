"""Study files are read as written, and refused with every fault, its line and what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import ConfigError, Fault
from prism_ray.study.extremes import extreme_configs, proposal_extremes
from prism_ray.study.load import find_study, load_study
from prism_ray.study.space import Condition, Dimension, IntRange, Subset, Uniform
from tests.conftest import REPOSITORY
from tests.study.texts import ABLATION, SEARCH, changed


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_study(text: str, *changes: tuple[str, str]) -> Path:
        path = tmp_path / "asked.yaml"
        path.write_text(changed(text, *changes))
        return path

    return write_study


def test_ablation_as_written(write: Callable[..., Path]) -> None:
    study = load_study(write(ABLATION))
    assert (study.name, study.kind, study.baseline_arm, study.curve) == ("asked", "ablation", "n0", "model.n_states")
    assert [(arm.name, arm.config.model.n_states, arm.reason) for arm in study.arms] == [
        ("n0", 0, "plain"),
        ("n2", 2, "published"),
        ("n4", 4, "more"),
    ]
    assert all(arm.config.model.d_model == 16 for arm in study.arms)
    assert (study.seeds, study.folds, study.cell_types, study.n_trials) == ((2, 22), ("fold_1",), ("K562",), 6)
    assert not study.is_smoke


def test_smoke_scale_replaces_what_it_gives_and_no_more(write: Callable[..., Path]) -> None:
    small = load_study(write(ABLATION), smoke=True)
    assert (small.name, small.is_smoke, small.seeds, small.folds) == ("asked-smoke", True, (2,), ("fold_1",))
    assert [arm.name for arm in small.arms] == ["n0", "n2"]
    assert all(arm.config.training.n_steps == 10 for arm in small.arms)
    assert all(arm.config.model.d_model == 16 for arm in small.arms)


def test_empty_smoke_section_says_that_it_is_small_already(write: Callable[..., Path]) -> None:
    text = ABLATION[: ABLATION.index("smoke:")] + "smoke: {}\n"
    assert load_study(write(text), smoke=True) == load_study(write(text))


def test_search_as_written(write: Callable[..., Path]) -> None:
    study = load_study(write(SEARCH))
    assert study.search is not None
    assert study.search.space == (
        Dimension("model.n_states", IntRange(0, 8)),
        Dimension("data.signals", Subset(("h3k27ac", "dnase"), 1)),
        Dimension("loss.alpha", Uniform(0, 2), Condition("model.n_states", at_least=1)),
    )
    assert (study.search.n_trials, study.search.n_startup_trials, study.search.sampler) == (12, 10, "tpe")
    small = load_study(write(SEARCH), smoke=True)
    assert small.search is not None
    assert small.search.space[0].domain == IntRange(0, 2)
    assert small.search.space[1:] == study.search.space[1:]
    assert (small.search.n_trials, small.search.n_startup_trials) == (3, 10)


def test_smoke_scale_of_a_search_says_only_what_has_an_effect(write: Callable[..., Path]) -> None:
    too_many = ("    n_trials: 3\n", "    n_trials: 3\n    n_startup_trials: 4\n")
    with pytest.raises(ConfigError, match=r"asked\.yaml:19: smoke\.search\.n_startup_trials: 4 is above n_trials 3"):
        load_study(write(SEARCH, too_many))
    with pytest.raises(ConfigError, match=r"smoke\.search\.n_startup_trials: has no effect with sampler: random"):
        load_study(write(SEARCH, too_many, ("  n_trials: 12", "  n_trials: 12\n  sampler: random")))


def test_startup_of_the_full_scale_is_cut_to_a_smaller_search(write: Callable[..., Path]) -> None:
    path = write(SEARCH, ("n_trials: 12", "n_trials: 12\n  n_startup_trials: 5"))
    for smoke, expected in ((False, 5), (True, 3)):
        search = load_study(path, smoke=smoke).search
        assert search is not None
        assert search.n_startup_trials == expected


@pytest.mark.parametrize("n_trials", [1, 3, 29, 400])
def test_more_trials_continue_the_same_search(write: Callable[..., Path], n_trials: int) -> None:
    other = write(SEARCH, ("n_trials: 12", f"n_trials: {n_trials}"))
    digest = load_study(other).proposals_digest()
    assert digest == load_study(write(SEARCH)).proposals_digest()
    assert digest != load_study(write(SEARCH, ("n_trials: 12", "n_trials: 12\n  seed: 5"))).proposals_digest()


def test_the_largest_run_of_a_search_may_be_a_finalist(write: Callable[..., Path]) -> None:
    again = "n_trials: 12\n  finalists: {k: 1, seeds: [2], patch: {data.window_bp: 4000}}"
    study = load_study(write(SEARCH, ("n_trials: 12", again)))
    smallest, largest = extreme_configs(study)
    assert (smallest, largest.data.window_bp) == (proposal_extremes(study)[0], 4000)
    assert proposal_extremes(study)[1].data.window_bp == 2000
    assert extreme_configs(load_study(write(SEARCH))) == proposal_extremes(study)


def test_overrides_change_settings_and_fingerprints(write: Callable[..., Path]) -> None:
    path = write(ABLATION)
    study, other = load_study(path), load_study(path, overrides={"optimizer.learning_rate": 1.0e-3})
    assert other.overrides == {"optimizer.learning_rate": 1.0e-3}
    for arm, changed_arm in zip(study.arms, other.arms, strict=True):
        assert changed_arm.config.optimizer.learning_rate == 1.0e-3
        assert arm.config.fingerprint() != changed_arm.config.fingerprint()
    assert study.digest() != other.digest()


@pytest.mark.parametrize(
    ("design", "names", "baseline_arm"),
    [
        ("{kind: leave_one_out}", ["full", "without_n0", "without_n4"], "full"),
        ("{kind: add_one}", ["base", "with_n0", "with_n4"], "base"),
        ("{kind: path}", ["base", "n0", "n4"], "base"),
    ],
)
def test_designs_of_parts(write: Callable[..., Path], design: str, names: list[str], baseline_arm: str) -> None:
    text = ABLATION[: ABLATION.index("smoke:")]
    study = load_study(
        write(
            text,
            ("baseline_arm: n0\n", f"design: {design}\n"),
            ("  n2: {patch: {model.n_states: 2}, reason: published}\n", ""),
        )
    )
    assert [arm.name for arm in study.arms] == names
    assert study.baseline_arm == baseline_arm
    assert [arm.config.model.n_states for arm in study.arms] == [2, 0, 4]


@pytest.mark.parametrize(
    ("design", "n_arms", "changes"),
    [
        (
            "{kind: factorial, factors: {loss.alpha: [0.0, 1.0], model.d_state: [8, 16, 32]}}",
            6,
            ("loss.alpha", "model.d_state"),
        ),
        ("{kind: subsets, field: data.signals, of: [h3k27ac, dnase, hic], min_size: 1}", 7, ("data.signals",)),
    ],
)
def test_designs_that_make_their_arms(
    write: Callable[..., Path], design: str, n_arms: int, changes: tuple[str, ...]
) -> None:
    head, tail = ABLATION[: ABLATION.index("changes:")], ABLATION[ABLATION.index("seeds:") : ABLATION.index("smoke:")]
    name = "alpha-0.0__d_state-8" if "factorial" in design else "h3k27ac"
    study = load_study(write(f"{head}design: {design}\n{tail}", ("baseline_arm: n0", f"baseline_arm: {name}")))
    assert len(study.arms) == n_arms
    assert study.changes == changes


def test_all_faults_are_said_together_and_once(write: Callable[..., Path]) -> None:
    path = write(
        ABLATION,
        ("question: How many?", "question: 3"),
        ("model.d_model: 16", "model.d_modle: 16"),
        ("n2: {patch: {model.n_states: 2}", "n2: {patch: {model.n_states: two}"),
        (", reason: plain", ""),
        ("curve: model.n_states", "curve: model.average"),
        ("seeds: [2, 22]", "seeds: [2, 2]"),
        ("metric: val/mse", "metric: test/mse"),
        ("training.n_steps: 10", "training.n_step: 10"),
    )
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    places = [fault.where.removeprefix(f"{path}:") for fault in caught.value.faults]
    assert sorted(places, key=lambda place: int(place.split(":")[0])) == [
        "1: question",
        "6: baseline.model.d_modle",
        "10: arms.n0.reason",
        "11: arms.n2.patch.model.n_states",
        "16: curve",
        "17: seeds",
        "20: objective.metric",
        "23: smoke.patch.training.n_step",
    ]
    assert str(caught.value).startswith("8 faults:")


def test_faulty_domains_do_not_hide_each_other(write: Callable[..., Path]) -> None:
    path = write(SEARCH, ("int_range: [0, 8]", "int_range: [8, 0]"), ("uniform: [0, 2]", "uniform: [-1, 2]"))
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert [fault.where for fault in caught.value.faults] == [
        f"{path}:13: search.space.model.n_states",
        f"{path}:15: search.space.loss.alpha",
    ]


def test_a_space_whose_only_domain_is_faulty_is_said_as_such(write: Callable[..., Path]) -> None:
    text = SEARCH[: SEARCH.index("    data.signals")]
    with pytest.raises(ConfigError, match="empty or a single value") as caught:
        load_study(write(text, ("int_range: [0, 8]", "int_range: [8, 0]")))
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.n_states": 3}, "overrides.model.n_states: is what the study asked varies"),
        ({"model.n_state": 3}, "overrides.model.n_state: .*Did you mean 'model.n_states'"),
        ({"training.n_steps": "many"}, "overrides.training.n_steps: 'many'"),
        ({"seed": 4}, "overrides.seed: seed is set for every trial"),
        ({"training.n_steps": date(2026, 1, 2)}, r"overrides.training.n_steps: .*2026.*valid integer"),
    ],
)
def test_faulty_overrides(write: Callable[..., Path], overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(write(ABLATION), overrides=overrides)


def test_a_faulty_override_is_the_only_fault() -> None:
    """Arms of DNA alone have no states, which the baseline says and the defaults do not."""
    with pytest.raises(ConfigError) as refused:
        load_study(REPOSITORY / "search_spaces" / "window_truncation.yaml", overrides={"seeds": [2]})
    assert [fault.where for fault in refused.value.faults] == ["overrides.seeds"]


def test_smoke_asked_of_a_study_without_one(write: Callable[..., Path]) -> None:
    path = write(ABLATION[: ABLATION.index("smoke:")])
    assert load_study(path).n_trials == 6
    with pytest.raises(ConfigError, match="has no smoke scale"):
        load_study(path, smoke=True)


def test_a_file_name_that_cannot_name_a_study(tmp_path: Path) -> None:
    path = tmp_path / "My Study.yaml"
    path.write_text(ABLATION)
    with pytest.raises(ConfigError, match="'My Study' is no usable name"):
        load_study(path)


@pytest.mark.parametrize("text", ["", "- a\n", "question: [\n", "question: !!python/object:os.system x\n"])
def test_text_that_is_no_study(tmp_path: Path, text: str) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"asked\.yaml"):
        load_study(path)


leaves = st.none() | st.booleans() | st.integers(-3, 30) | st.floats() | st.sampled_from(["n0", "val/mse", "5e-4"])
yaml_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["patch", "of", "kind"]), inner),
    max_leaves=4,
)
FIELDS = [line.split(":")[0] for line in ABLATION.splitlines() if not line.startswith(" ")]


def faults_of(path: Path) -> tuple[Fault, ...] | None:
    """Faults of a study file; None where it loads."""
    try:
        load_study(path)
    except ConfigError as problem:
        return problem.faults
    return None


@settings(max_examples=150)
@given(field=st.sampled_from(FIELDS), value=yaml_values)
def test_any_value_in_any_field_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    content = {**yaml.safe_load(ABLATION), field: value}
    path = tmp_path_factory.mktemp("any") / "asked.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    faults = faults_of(path)
    assert faults is None or (faults and all("asked.yaml" in fault.where for fault in faults))


def test_find_study_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "search_spaces"
    folder.mkdir()
    mine = folder / "mine.yaml"
    mine.write_text(ABLATION)
    assert find_study(mine) == mine
    assert find_study(str(mine)) == mine
    monkeypatch.chdir(tmp_path)
    assert find_study("mine").resolve() == mine
    assert find_study("mine.yaml").resolve() == mine
    # Not in the working folder: the project's own.
    assert find_study("smoke").resolve() == REPOSITORY / "search_spaces" / "smoke.yaml"
    # The working folder comes first.
    (folder / "smoke.yaml").write_text(ABLATION)
    assert find_study("smoke").resolve() == folder / "smoke.yaml"


def test_find_study_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"confounder_cuont: is neither.*Did you mean 'confounder_count'"):
        find_study("confounder_cuont")
    with pytest.raises(ConfigError, match="give the path of a study file"):
        find_study(tmp_path / "nowhere.yaml")


PATH = changed(
    ABLATION[: ABLATION.index("smoke:")],
    ("  model.d_model: 16\n", "  model.n_states: 0\n"),
    ("baseline_arm: n0\n", "design: {kind: path}\n"),
    ("changes: [model.n_states]", "changes: [model.n_states, data.window_bp, loss.alpha]"),
    ("n0: {patch: {model.n_states: 0}", "short: {patch: {data.window_bp: 500}"),
    ("      model.n_states: 4\n", "      loss.alpha: 0.5\n"),
)


def test_a_path_goes_from_the_baseline_to_all_changes(write: Callable[..., Path]) -> None:
    study = load_study(write(PATH))
    assert study.baseline_arm == "base"
    settings = [
        (arm.name, arm.config.data.window_bp, arm.config.model.n_states, arm.config.loss.alpha) for arm in study.arms
    ]
    assert settings == [
        ("base", 2000, 0, 1.0),
        ("short", 500, 0, 1.0),
        ("n2", 500, 2, 1.0),
        ("n4", 500, 2, 0.5),
    ]


def test_a_fault_on_a_path_is_said_once_at_the_step_that_makes_it(write: Callable[..., Path]) -> None:
    path = write(PATH, ("{data.window_bp: 500}", "{data.window_bp: 501, model.d_model: 8}"))
    with pytest.raises(ConfigError) as refused:
        load_study(path)
    said = [str(fault) for fault in refused.value.faults]
    assert len([line for line in said if "501 is odd" in line]) == 1
    assert len([line for line in said if "model.d_model" in line]) == 1
    assert all(":10: arms.short.patch." in line for line in said)


def test_a_step_of_a_path_that_changes_nothing_is_refused(write: Callable[..., Path]) -> None:
    path = write(PATH, ("      loss.alpha: 0.5\n", "      loss.alpha: 1.0\n"))
    with pytest.raises(ConfigError, match="arm n4 is the same run as arm n2"):
        load_study(path)
