"""The searcher against Optuna's database, in loops that stand in for Ray Tune's, and once under Tune itself."""

from __future__ import annotations

import copy
import gc
import json
import math
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from prism_ray.config import RunConfig
from prism_ray.distributed.search_database import IDENTITY_KEY, SearchCounts
from prism_ray.distributed.search_storage import open_storage
from prism_ray.distributed.searcher import CURVE_KEY, FAILURE_KEY, PRUNED_KEY, StudySearcher
from prism_ray.distributed.warm_start import WarmStart
from prism_ray.errors import ConfigError
from prism_ray.study.designs import proposed_trial
from prism_ray.study.search_spec import Objective, Search
from prism_ray.study.space import Choice, Dimension, IntRange, LogUniform, Subset
from prism_ray.study.spec import Study

WIDE = (
    Dimension("model.n_states", IntRange(0, 8)),
    Dimension("data.signals", Subset(("h3k27ac", "dnase", "hic"), 1)),
    Dimension("optimizer.learning_rate", LogUniform(1e-4, 1e-2)),
)
NARROW = (Dimension("model.n_states", IntRange(0, 2)), Dimension("data.window_bp", Choice((500, 1000))))
DATA = "d" * 64


def make_search(space: tuple[Dimension, ...] = WIDE, n_trials: int = 6, sampler: Any = "random", **more: Any) -> Study:
    study = Study(
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
        search=Search(space, sampler, n_trials, 3, 0),
    )
    return replace(study, **more)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "search.journal"


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with Optuna's tables: making them takes a second, copying them does not."""
    path = tmp_path_factory.mktemp("searches") / "search.db"
    open_storage(path)
    gc.collect()
    return path


@pytest.fixture(params=["search.journal", "search.db"])
def storage(request: pytest.FixtureRequest, empty_database: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / str(request.param)
    if request.param == "search.db":
        shutil.copyfile(empty_database, path)
    yield path
    if request.param == "search.db":
        # Connections of SQLite are closed when they are collected, which must not be inside another test.
        gc.collect()


def done(value: float, step: int = 1) -> dict[str, Any]:
    return {"val/mse": value, "training_iteration": step, FAILURE_KEY: ""}


def pruned(*curve: tuple[int, float]) -> dict[str, Any]:
    return {"val/mse": curve[-1][1], CURVE_KEY: curve, PRUNED_KEY: "stopped", FAILURE_KEY: ""}


def frozen_trials(searcher: StudySearcher, storage: Path) -> list[FrozenTrial]:
    study = optuna.load_study(study_name=searcher.optuna_study_name, storage=open_storage(storage))
    return study.get_trials()


def suggest(searcher: StudySearcher, name: str) -> dict[str, Any] | None:
    """Values of the next proposal; None at the end."""
    proposal = searcher.suggest(name)
    if proposal == searcher.FINISHED:
        return None
    assert isinstance(proposal, dict)
    assert list(proposal) == ["values"]
    values: dict[str, Any] = proposal["values"]
    return values


def run_all(searcher: StudySearcher, prefix: str = "t", loss: Any = lambda config: config.model.n_states) -> int:
    """Run the search to its end as one worker would; the number of trained trials."""
    n_trained = 0
    while (values := suggest(searcher, f"{prefix}{n_trained}")) is not None:
        config = searcher._asked.config_for(values)
        searcher.on_trial_result(f"{prefix}{n_trained}", done(float(loss(config))))
        searcher.on_trial_complete(f"{prefix}{n_trained}", done(float(loss(config))))
        n_trained += 1
    return n_trained


def test_proposes_n_different_settings_and_ends(storage: Path) -> None:
    study = make_search()
    searcher = StudySearcher(study, storage, DATA)
    assert run_all(searcher) == 6
    assert searcher.n_complete == 6
    configs = [study.config_for(values) for values in searcher.proposals()]
    assert len({config.fingerprint() for config in configs}) == 6
    trials = frozen_trials(searcher, storage)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    for trial in trials:
        config = study.config_for(trial.params)
        assert trial.value == config.model.n_states
        assert trial.user_attrs[IDENTITY_KEY] == proposed_trial(study, trial.params).trial_id(DATA)
    assert searcher.suggest("more") == searcher.FINISHED


@pytest.mark.parametrize(
    ("result", "error", "state", "reason"),
    [
        (done(0.5), False, TrialState.COMPLETE, None),
        (pruned((1, 0.7), (3, 0.5)), False, TrialState.PRUNED, None),
        (done(math.nan), False, TrialState.FAIL, "val/mse is nan"),
        (done(math.inf), False, TrialState.FAIL, "val/mse is inf"),
        ({"training_iteration": 1, FAILURE_KEY: ""}, False, TrialState.FAIL, "val/mse is None"),
        ({"val/mse": math.nan, FAILURE_KEY: "loss is nan"}, False, TrialState.FAIL, "loss is nan"),
        ({"val/mse": 0.5, FAILURE_KEY: "disk full"}, False, TrialState.FAIL, "disk full"),
        (None, True, TrialState.FAIL, "its process died"),
        ({"val/mse": 0.5, "training_iteration": 3}, True, TrialState.FAIL, "its process died"),
    ],
)
def test_outcomes_are_told_as_they_are(
    storage: Path, result: dict[str, Any] | None, error: bool, state: TrialState, reason: str | None
) -> None:
    searcher = StudySearcher(make_search(), storage, DATA)
    suggest(searcher, "a")
    searcher.on_trial_complete("a", result, error=error)
    (trial,) = frozen_trials(searcher, storage)
    assert trial.state == state
    assert trial.user_attrs.get(FAILURE_KEY) == reason
    assert trial.value == (0.5 if state != TrialState.FAIL else None)
    assert searcher.n_complete == (0 if state == TrialState.FAIL else 1)


def test_a_stopped_trial_keeps_its_curve(journal: Path) -> None:
    searcher = StudySearcher(make_search(), journal, DATA)
    suggest(searcher, "a")
    # What Tune passes on while it runs says nothing that its end does not say.
    searcher.on_trial_result("a", {"val/mse": 0.9, "training_iteration": 1})
    searcher.on_trial_complete("a", pruned((10, 0.9), (30, 0.8), (90, 0.6)))
    (trial,) = frozen_trials(searcher, journal)
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {10: 0.9, 30: 0.8, 90: 0.6}


def test_a_trial_that_did_not_say_how_it_ended_is_proposed_again(journal: Path) -> None:
    before = StudySearcher(make_search(), journal, DATA)
    values = suggest(before, "a")
    before.on_trial_complete("a", {"val/mse": 0.9, "training_iteration": 1})
    assert [trial.state for trial in frozen_trials(before, journal)] == [TrialState.RUNNING]
    assert suggest(StudySearcher(make_search(), journal, DATA), "b") == values


def test_a_second_completion_changes_nothing(journal: Path) -> None:
    searcher = StudySearcher(make_search(), journal, DATA)
    suggest(searcher, "a")
    searcher.on_trial_complete("a", done(0.5))
    searcher.on_trial_complete("a", done(0.1))
    searcher.on_trial_complete("never proposed", done(0.1))
    assert [trial.value for trial in frozen_trials(searcher, journal)] == [0.5]


def test_the_same_settings_are_told_their_value_and_not_trained_again(journal: Path) -> None:
    # Three numbers of states times two windows: forty proposals must repeat themselves.
    searcher = StudySearcher(make_search(NARROW, n_trials=40), journal, DATA)
    assert run_all(searcher, loss=lambda config: config.model.n_states + config.data.window_bp) == 6
    trials = frozen_trials(searcher, journal)
    assert len(trials) > 40
    for trial in trials:
        assert trial.state == TrialState.COMPLETE
        assert trial.value == trial.params["model.n_states"] + trial.params["data.window_bp"]
    assert len(searcher.proposals()) == searcher.n_complete == 6


def test_repeats_of_stopped_and_failed_settings_are_told_so(journal: Path) -> None:
    searcher = StudySearcher(make_search(NARROW, n_trials=40), journal, DATA)
    number = 0
    while (values := suggest(searcher, f"t{number}")) is not None:
        if values["model.n_states"] == 0:
            searcher.on_trial_complete(f"t{number}", done(math.nan))
        else:
            searcher.on_trial_complete(f"t{number}", pruned((2, 0.5)))
        number += 1
    assert number == 6
    for trial in frozen_trials(searcher, journal):
        expected = TrialState.FAIL if trial.params["model.n_states"] == 0 else TrialState.PRUNED
        assert trial.state == expected
        assert trial.intermediate_values == ({} if expected == TrialState.FAIL else {2: 0.5})


def test_settings_without_effect_do_not_make_another_trial(journal: Path) -> None:
    # At n = 0 the loss has no adjusted part: alpha changes nothing.
    space = (Dimension("loss.alpha", Choice((0.0, 1.0))), Dimension("model.n_states", IntRange(0, 1)))
    searcher = StudySearcher(make_search(space, n_trials=30), journal, DATA)
    assert run_all(searcher) == 3


def test_the_same_settings_at_the_same_time_share_one_training(journal: Path) -> None:
    space = (Dimension("model.n_states", IntRange(0, 1)),)
    searcher = StudySearcher(make_search(space, n_trials=9), journal, DATA)
    first, second = suggest(searcher, "a"), suggest(searcher, "b")
    assert first != second
    assert suggest(searcher, "c") is None
    searcher.on_trial_complete("a", pruned((1, 3.0), (2, 2.0)))
    searcher.on_trial_complete("b", None, error=True)
    assert first is not None
    for trial in frozen_trials(searcher, journal):
        same = trial.params == first
        assert trial.state == (TrialState.PRUNED if same else TrialState.FAIL)
        assert trial.value == (2.0 if same else None)
        assert trial.intermediate_values == ({1: 3.0, 2: 2.0} if same else {})


def test_a_new_launch_proposes_interrupted_trials_first(storage: Path) -> None:
    study = make_search()
    before = StudySearcher(study, storage, DATA)
    finished, interrupted = suggest(before, "a"), suggest(before, "b")
    never_begun = suggest(before, "c")
    before.on_trial_complete("a", done(0.5))
    before.on_trial_complete("c", None)
    del before
    after = StudySearcher(study, storage, DATA)
    assert after.n_complete == 1
    assert after.proposals() == [finished, interrupted, never_begun]
    assert [suggest(after, "x"), suggest(after, "y")] == [interrupted, never_begun]
    after.on_trial_result("x", done(0.25))
    after.on_trial_complete("x", done(0.25))
    after.on_trial_complete("y", done(0.75))
    assert run_all(after, "more") == 3
    trials = frozen_trials(after, storage)
    assert [trial.value for trial in trials[:3]] == [0.5, 0.25, 0.75]
    assert len(trials) == 6
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_interrupted_trials_with_the_same_settings_do_not_wait_for_each_other(journal: Path) -> None:
    study = make_search((Dimension("model.n_states", IntRange(0, 1)),), n_trials=2)
    before = StudySearcher(study, journal, DATA)
    suggest(before, "a")
    suggest(before, "b")
    assert suggest(before, "c") is None
    # A driver that died while a third proposal, the same as one of the two, waited.
    stored = optuna.load_study(study_name=before.optuna_study_name, storage=open_storage(journal))
    stored.enqueue_trial({"model.n_states": 0})
    stored.ask({"model.n_states": optuna.distributions.IntDistribution(0, 1)})
    del before
    after = StudySearcher(study, journal, DATA)
    assert run_all(after) == 2
    assert {trial.state for trial in frozen_trials(after, journal)} == {TrialState.COMPLETE}


def test_a_trial_that_died_while_it_was_asked_is_completed(storage: Path) -> None:
    study = make_search(n_trials=1)
    before = StudySearcher(study, storage, DATA)
    assert before.n_complete == 0
    stored = optuna.load_study(study_name=before.optuna_study_name, storage=open_storage(storage))
    stored.ask({"model.n_states": optuna.distributions.IntDistribution(0, 8)})
    after = StudySearcher(study, storage, DATA)
    values = suggest(after, "a")
    assert values is not None
    assert set(values) == {dimension.path for dimension in WIDE}
    assert len(frozen_trials(after, storage)) == 1


def test_a_new_launch_tries_failed_settings_once_more(storage: Path) -> None:
    study = make_search(n_trials=2)
    before = StudySearcher(study, storage, DATA)
    good, bad = suggest(before, "a"), suggest(before, "b")
    before.on_trial_complete("a", done(0.5))
    before.on_trial_complete("b", None, error=True)
    assert suggest(before, "c") is None
    after = StudySearcher(study, storage, DATA)
    assert suggest(after, "x") == bad
    after.on_trial_complete("x", done(0.25))
    assert suggest(after, "y") is None
    assert after.n_complete == 2
    assert after.proposals() == [good, bad]
    # Now that it has an outcome there is nothing left to try.
    assert suggest(StudySearcher(study, storage, DATA), "z") is None


def test_a_longer_search_goes_on_with_other_proposals(journal: Path) -> None:
    run_all(StudySearcher(make_search(n_trials=5), journal, DATA))
    longer = StudySearcher(make_search(n_trials=10), journal, DATA)
    assert longer.n_complete == 5
    assert run_all(longer) == 5
    rates = [values["optimizer.learning_rate"] for values in longer.proposals()]
    assert len(set(rates)) == 10


def test_the_same_seed_repeats_a_search(tmp_path: Path) -> None:
    for sampler in ("random", "tpe"):
        runs = []
        for name in ("one", "two"):
            searcher = StudySearcher(make_search(sampler=sampler), tmp_path / f"{name}-{sampler}.journal", DATA)
            run_all(searcher)
            runs.append(searcher.proposals())
        assert runs[0] == runs[1]


def test_tpe_finds_what_random_search_does_not(tmp_path: Path) -> None:
    """A quadratic in log learning rate: TPE's later proposals come close to its minimum at 1e-3."""

    def loss(config: RunConfig) -> float:
        return (math.log10(config.optimizer.learning_rate) + 3) ** 2

    space = (Dimension("optimizer.learning_rate", LogUniform(1e-4, 1e-1)),)
    late: dict[str, float] = {}
    for sampler in ("random", "tpe"):
        study = make_search(space, 40, sampler)
        searcher = StudySearcher(study, tmp_path / f"{sampler}.journal", DATA)
        run_all(searcher, loss=loss)
        losses = [loss(study.config_for(values)) for values in searcher.proposals()][20:]
        late[sampler] = sum(losses) / len(losses)
    assert late["tpe"] < late["random"] / 3


def test_maximised_objectives(journal: Path) -> None:
    study = make_search(objective=Objective("val/pearson_r", "maximize"))
    searcher = StudySearcher(study, journal, DATA)
    suggest(searcher, "a")
    searcher.on_trial_complete("a", {"val/pearson_r": 0.9, FAILURE_KEY: ""})
    stored = optuna.load_study(study_name=searcher.optuna_study_name, storage=open_storage(journal))
    assert stored.direction == optuna.study.StudyDirection.MAXIMIZE
    assert stored.best_value == 0.9


def test_studies_and_data_are_never_mixed(journal: Path) -> None:
    searchers = [
        StudySearcher(make_search(), journal, DATA),
        StudySearcher(make_search(name="other"), journal, DATA),
        StudySearcher(make_search(NARROW), journal, DATA),
        StudySearcher(make_search(), journal, "e" * 64),
    ]
    for number, searcher in enumerate(searchers):
        suggest(searcher, "a")
        searcher.on_trial_complete("a", done(float(number)))
    assert [searcher.n_complete for searcher in searchers] == [1, 1, 1, 1]
    assert len({searcher.optuna_study_name for searcher in searchers}) == 4


def test_save_is_json_and_restore_takes_up_running_trials(storage: Path, tmp_path: Path) -> None:
    study = make_search(n_trials=3)
    before = StudySearcher(study, storage, DATA)
    first, second = suggest(before, "a"), suggest(before, "b")
    before.save(str(tmp_path / "state"))
    assert json.loads((tmp_path / "state").read_text())["running"] == {"a": 0, "b": 1}
    # After the state was saved: one ends, another begins. Tune knows neither when it is restored.
    before.on_trial_complete("b", done(0.5))
    third = suggest(before, "c")
    del before
    after = StudySearcher(study, storage, DATA)
    after.restore(str(tmp_path / "state"))
    after.on_trial_complete("a", done(0.7, step=2))
    after.on_trial_complete("b", done(0.5))
    assert suggest(after, "d") == third
    after.on_trial_complete("d", done(0.1))
    assert suggest(after, "e") is None
    trials = frozen_trials(after, storage)
    assert [trial.params for trial in trials] == [first, second, third]
    assert [trial.value for trial in trials] == [0.7, 0.5, 0.1]


def test_restore_refuses_the_state_of_another_search(storage: Path, tmp_path: Path) -> None:
    StudySearcher(make_search(), storage, DATA).save(str(tmp_path / "state"))
    with pytest.raises(ConfigError, match=r"state: was saved by the search made-.*, not by other-"):
        StudySearcher(make_search(name="other"), storage, DATA).restore(str(tmp_path / "state"))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda searcher: pickle.loads(pickle.dumps(searcher))])
def test_copies_go_on_from_the_database(storage: Path, again: Any) -> None:
    searcher = StudySearcher(make_search(), storage, DATA)
    suggest(searcher, "a")
    searcher.on_trial_complete("a", done(0.5))
    assert again(searcher).n_complete == 1
    assert again(searcher).proposals() == searcher.proposals()


def test_settings_that_contradict_each_other_are_told_failed(journal: Path) -> None:
    # Loading a study refuses such a space; a script can make it.
    space = (Dimension("optimizer.learning_rate", LogUniform(1e-7, 1e-6)),)
    searcher = StudySearcher(make_search(space), journal, DATA)
    with pytest.raises(ConfigError, match="above learning_rate"):
        searcher.suggest("a")
    assert [trial.state for trial in frozen_trials(searcher, journal)] == [TrialState.FAIL]


def test_objectives_belong_to_the_study(tmp_path: Path) -> None:
    searcher = StudySearcher(make_search(), tmp_path / "search.journal", DATA)
    assert searcher.set_search_properties(None, None, {})
    assert not searcher.set_search_properties("test/mse", "min", {})


def test_two_objectives_are_told_together(storage: Path) -> None:
    study = make_search(second_objective=Objective("cost/n_parameters", "minimize"), n_trials=4)
    searcher = StudySearcher(study, storage, DATA)
    for number, costs in enumerate(((0.5, 100.0), (0.4, 200.0), (0.6, math.nan))):
        suggest(searcher, f"t{number}")
        searcher.on_trial_complete(f"t{number}", {**done(costs[0]), "cost/n_parameters": costs[1]})
    trials = frozen_trials(searcher, storage)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL]
    assert [trial.values for trial in trials[:2]] == [[0.5, 100.0], [0.4, 200.0]]
    assert trials[2].user_attrs[FAILURE_KEY] == "cost/n_parameters is nan"
    assert [one.scores for one in searcher.outcomes()] == [(0.5, 100.0), (0.4, 200.0)]


def test_counts_tell_outcomes_apart(journal: Path) -> None:
    searcher = StudySearcher(make_search(), journal, DATA)
    for name, result in (("a", done(0.5)), ("b", pruned((1, 0.9))), ("c", pruned((1, 0.8))), ("d", done(math.nan))):
        suggest(searcher, name)
        searcher.on_trial_complete(name, result)
    suggest(searcher, "e")
    assert searcher.counts() == SearchCounts(complete=1, pruned=2, failed=1, warm_starts=0)
    assert [one.scores for one in searcher.outcomes()] == [(0.5,)]


def warm(study: Study, n_states: int, score: float) -> WarmStart:
    values = {"model.n_states": n_states, "data.window_bp": 500}
    return WarmStart(proposed_trial(study, values).trial_id(DATA), values, (score,))


def test_warm_starts_are_learnt_from_counted_apart_and_added_once(journal: Path) -> None:
    study = make_search(NARROW, n_trials=40)
    searcher = StudySearcher(study, journal, DATA)
    found = [warm(study, 0, 0.1), warm(study, 2, 0.3)]
    for _ in range(2):
        assert searcher.warm_start(found) == [found[0].values, found[1].values]
    assert searcher.counts() == SearchCounts(complete=0, pruned=0, failed=0, warm_starts=2)
    assert (searcher.n_complete, searcher.proposals()) == (0, [])
    # Six settings there are; the two that were known are not trained.
    assert run_all(searcher) == 4
    assert searcher.counts() == SearchCounts(complete=4, pruned=0, failed=0, warm_starts=2)
    assert len(searcher.proposals()) == 4
    assert len(searcher.outcomes()) == 6
    after = StudySearcher(study, journal, DATA)
    assert len(after.warm_start(found)) == 2
    assert after.counts() == searcher.counts()
    for trial in frozen_trials(after, journal):
        assert trial.state == TrialState.COMPLETE


def test_what_the_search_proposed_itself_is_no_warm_start(journal: Path) -> None:
    study = make_search(NARROW, n_trials=3)
    searcher = StudySearcher(study, journal, DATA)
    values = suggest(searcher, "a")
    assert values is not None
    # Its record is there, but the driver died before it was told: it stays a proposal.
    finished = WarmStart(proposed_trial(study, values).trial_id(DATA), values, (0.5,))
    after = StudySearcher(study, journal, DATA)
    assert after.warm_start([finished]) == []
    assert suggest(after, "b") == values


@pytest.mark.parametrize("location", ["search.txt", "search"])
def test_storage_of_no_known_kind_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ConfigError, match=r"is no searcher's database; use a \.journal file"):
        open_storage(tmp_path / location)


def test_storage_by_url(tmp_path: Path) -> None:
    searcher = StudySearcher(make_search(), f"sqlite:///{tmp_path}/by_url.db", DATA)
    assert suggest(searcher, "a") is not None
    assert StudySearcher(make_search(), tmp_path / "by_url.db", DATA).proposals() == searcher.proposals()
    del searcher
    gc.collect()
