"""Searches as a whole: pruned, resumed, warm-started, with two objectives and with finalists; in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import prism_ray.store
from prism_ray.distributed import study_search
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.plan import plan_study
from prism_ray.distributed.plan_facts import PlanSettings
from prism_ray.distributed.pruning import read_pruned
from prism_ray.distributed.ray_backend import RayBackend
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.search_storage import open_storage
from prism_ray.distributed.searcher import StudySearcher
from prism_ray.distributed.stop_request import request_stop
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.study_status import study_status
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.checkpoint import CHECKPOINT_NAME
from prism_ray.training.record import read_record
from tests.distributed.conftest import TINY, Told

pytestmark = pytest.mark.ray
SPACE = {
    "optimizer.learning_rate": {"choice": [1.0e-3, 5.0e-3, 2.0e-2, 5.0e-2]},
    "model.d_model": {"choice": [4, 8]},
}
SHORT = {**TINY, "training.n_steps": 9, "training.validate_every_epochs": 0.2}
MakeSearch = Callable[..., Study]
HERE = InProcessBackend()


@pytest.fixture
def make_search(make_study: Callable[..., Study]) -> MakeSearch:
    def make(second: Mapping[str, str] | None = None, **search: Any) -> Study:
        asked = {"sampler": "random", "seed": 1, "n_trials": 6, "space": SPACE, **search}
        none = {"baseline_arm": None, "changes": None, "arms": None, "curve": None, "seeds": [2]}
        return make_study(kind="search", baseline=SHORT, search=asked, second_objective=second, **none)

    return make


@pytest.fixture
def here(settings: StudySettings) -> StudySettings:
    return dataclasses.replace(settings, backend=HERE)


ASHA = {"kind": "asha", "reduction": 2, "min_fraction": 0.2}
FINALISTS = {"k": 2, "seeds": [2, 22], "patch": {"training.n_steps": 12}}


def optuna_trials(study: Study, settings: StudySettings) -> list[optuna.trial.FrozenTrial]:
    location = settings.search_database or settings.storage / "studies" / study.name / "optuna.journal"
    name = StudySearcher(study, location, prism_ray.store.open(settings.store).digest).optuna_study_name
    return optuna.load_study(study_name=name, storage=open_storage(location)).get_trials()


def check_pruned(study: Study, settings: StudySettings, told: Told) -> set[str]:
    """Identities of the trials that were pruned, alike in Optuna, in their folders and in MLflow."""
    frozen = {trial.user_attrs["prism.trial_id"]: trial for trial in optuna_trials(study, settings)}
    pruned = {name for name, trial in frozen.items() if trial.state == TrialState.PRUNED}
    rows = fetch_trials(settings.tracking_uri, study.name).set_index("trial_id")
    for name, trial in frozen.items():
        folder = settings.storage / "trials" / name
        record, verdict = read_record(folder), read_pruned(folder)
        assert (record is None) == (verdict is not None) == (name in pruned)
        assert rows.loc[name, "status"] == ("KILLED" if name in pruned else "FINISHED")
        assert rows["outcome"].fillna("")[name] == ("pruned" if name in pruned else "")
        if verdict is not None:
            assert (folder / CHECKPOINT_NAME).exists()
            assert verdict.step < verdict.n_steps == 9
            assert trial.intermediate_values == dict(verdict.curve)
            assert trial.value == verdict.value
    assert len(told.labels("pruned")) == len(pruned)
    return pruned


def test_asha_stops_what_is_worse_and_resume_repeats_nothing(make_search: MakeSearch, here: StudySettings) -> None:
    study, told = make_search(pruner=ASHA), Told()
    outcome = run_study(study, here, told)
    pruned = check_pruned(study, here, told)
    assert 1 <= len(pruned) <= 5
    assert (outcome.n_pruned, outcome.n_finished, outcome.failures, outcome.n_left) == (
        len(pruned),
        6 - len(pruned),
        {},
        0,
    )
    assert outcome.status == fetch_study(here.tracking_uri, study.name).status == "FINISHED"
    assert told.beside_reads() == [f"search: {6 - len(pruned)} complete, {len(pruned)} pruned, 0 failed of 6 proposals"]
    again = Told()
    repeated = run_study(study, here, again)
    assert again.events == [("begin", "6 6")]
    assert (repeated.n_pruned, repeated.n_finished) == (outcome.n_pruned, outcome.n_finished)
    # A longer search judges its new trials by the rungs that the first one left.
    longer, more = make_search(pruner=ASHA, n_trials=8), Told()
    run_study(longer, here, more)
    assert more.events[0] == ("begin", "8 6")
    assert len(more.labels("started")) == 2


def test_without_a_pruner_every_trial_trains_to_its_end(make_search: MakeSearch, here: StudySettings) -> None:
    outcome = run_study(make_search(n_trials=3), here, Told())
    assert (outcome.n_finished, outcome.n_pruned) == (3, 0)


def test_a_pruned_trial_is_whole_for_another_study(
    make_search: MakeSearch, make_study: Callable[..., Study], here: StudySettings
) -> None:
    study = make_search(pruner=ASHA)
    run_study(study, here, Told())
    stopped = next(trial for trial in optuna_trials(study, here) if trial.state == TrialState.PRUNED)
    patch = dict(stopped.params)
    ablation = make_study(
        baseline=SHORT,
        seeds=[2],
        changes=list(patch),
        arms={"base": {"patch": {"model.d_model": 6}, "reason": "-"}, "same": {"patch": patch, "reason": "-"}},
        baseline_arm="base",
        curve=None,
    )
    outcome = run_study(ablation, here, Told())
    assert (outcome.n_found, outcome.n_finished) == (0, 2)
    # The search keeps its verdict: what it learnt from does not change behind its back.
    repeated = run_study(make_search(pruner=ASHA), here, again := Told())
    assert again.labels("started") == set()
    assert repeated.failures == {}


def test_finalists_are_retrained_beside_the_baseline_and_only_once(
    make_search: MakeSearch, here: StudySettings
) -> None:
    study, told = make_search(n_trials=4, finalists=FINALISTS), Told()
    outcome = run_study(study, here, told)
    assert (outcome.n_trials, outcome.n_finished, outcome.failures) == (4 + 6, 10, {})
    best = sorted(optuna_trials(study, here), key=lambda trial: trial.value or 0.0)[:2]
    arms = ["baseline", *(f"finalist-{study.config_for(trial.params).fingerprint()[:8]}" for trial in best)]
    header = fetch_study(here.tracking_uri, study.name).header
    assert (list(header.arms), header.baseline, header.finalist_seeds) == (arms, "baseline", (2, 22))
    trials = fetch_trials(here.tracking_uri, study.name)
    last = trials[~trials["arm"].str.startswith("proposal-")]
    assert sorted(zip(last["arm"], last["seed"], strict=True)) == sorted(
        (arm, seed) for arm in arms for seed in (2, 22)
    )
    assert set(last["param/training.n_steps"]) == {12}
    assert set(last["parent_run_id"]) == {outcome.parent_run_id}
    again = Told()
    assert run_study(study, here, again).n_found == 10
    assert again.labels("started") == set()
    # Other finalists do not search again.
    wider, more = make_search(n_trials=4, finalists={**FINALISTS, "k": 3}), Told()
    run_study(wider, here, more)
    assert more.labels("started") == more.labels("finished")
    assert {label.split()[0].split("-")[0] for label in more.labels("started")} == {"finalist"}
    assert len(more.labels("started")) == 2


def test_finalists_of_equal_budget_are_the_proposals_themselves(make_search: MakeSearch, here: StudySettings) -> None:
    study = make_search(n_trials=3, finalists={"k": 1, "seeds": [2]})
    outcome = run_study(study, here, told := Told())
    assert outcome.n_finished == 3 + 2
    # The finalist was trained as a proposal: only the baseline is left to train.
    assert {label.split()[0] for label in told.labels("started")} >= {"baseline"}
    assert len(told.labels("started")) == 4
    trials = fetch_trials(here.tracking_uri, study.name)
    assert set(trials["status"]) == {"FINISHED"}
    finalist = trials[trials["arm"].str.startswith("finalist-")].iloc[0]
    proposal = trials[trials["arm"] == finalist["arm"].replace("finalist", "proposal")].iloc[0]
    assert finalist["trial_id"] == proposal["trial_id"]
    assert finalist["test/mse"] == proposal["test/mse"]
    status = study_status(here.storage, study.name)
    assert (status.counts["done"], status.counts["missing"]) == (5, 0)
    assert {part: states["done"] for part, states in status.parts.items()} == {"proposals": 3, "finalists": 2}
    plan = plan_study(study, PlanSettings(here.store, here.storage))
    assert (plan.n_trials, plan.n_left) == (5, 0)


class StopsAfter(Told):
    """Ends the launch, as Ctrl-C does, when some trials have finished."""

    def __init__(self, n_trials: int) -> None:
        super().__init__()
        self._left = n_trials

    def finished(self, label: str, metrics: Mapping[str, Any]) -> None:
        super().finished(label, metrics)
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("n_before", [2, 6])
def test_an_interrupted_search_goes_on_where_it_was(
    make_search: MakeSearch, here: StudySettings, n_before: int
) -> None:
    study = make_search(n_trials=4, finalists=FINALISTS)
    first, second = StopsAfter(n_before), Told()
    with pytest.raises(KeyboardInterrupt):
        run_study(study, here, first)
    outcome = run_study(study, here, second)
    assert (outcome.n_finished, outcome.failures, outcome.n_left) == (10, {}, 0)
    # What was told as finished is not started again, but for the one that the interrupt came in the middle of.
    assert not first.labels("finished") & second.labels("finished") - {first.events[-1][1]}
    trials = fetch_trials(here.tracking_uri, study.name)
    assert len(trials) == 10
    assert set(trials["status"]) == {"FINISHED"}


def test_two_objectives_and_finalists_of_the_front(make_search: MakeSearch, here: StudySettings) -> None:
    second = {"metric": "cost/n_parameters", "direction": "minimize"}
    study = make_search(second, n_trials=4, finalists={**FINALISTS, "seeds": [2]})
    outcome = run_study(study, here, Told())
    trials = optuna_trials(study, here)
    assert all(len(trial.values) == 2 for trial in trials)
    for trial in trials:
        record = read_record(here.storage / "trials" / trial.user_attrs["prism.trial_id"])
        assert record is not None
        assert trial.values == [record.metrics["val/mse"], float(record.n_parameters)]
    header = fetch_study(here.tracking_uri, study.name).header
    assert header.second_metric == "cost/n_parameters"
    assert outcome.n_finished == 4 + len(header.arms)


def test_a_front_of_fewer_than_k_settings_is_the_whole_study(
    make_search: MakeSearch, here: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one setting beats the others in both objectives, there is one finalist, and nothing is left to do."""
    monkeypatch.setattr(study_search, "choose_finalists", lambda study, outcomes: outcomes[:1])
    study = make_search(n_trials=3, finalists={"k": 2, "seeds": [2]})
    assert study.n_trials == 3 + 3
    outcome = run_study(study, here, Told())
    assert (outcome.n_trials, outcome.n_finished, outcome.n_left, outcome.exit_code) == (5, 5, 0, 0)
    assert fetch_study(here.tracking_uri, study.name).header.n_trials == 5


def test_a_space_of_fewer_settings_than_proposals_is_searched_whole(
    make_search: MakeSearch, here: StudySettings
) -> None:
    study = make_search(n_trials=6, space={"model.d_model": {"choice": [4, 8]}})
    outcome = run_study(study, here, Told())
    assert (outcome.n_trials, outcome.n_finished, outcome.n_left, outcome.exit_code) == (2, 2, 0, 0)


def test_a_search_that_is_stopped_is_short_of_its_finalists(make_search: MakeSearch, here: StudySettings) -> None:
    study = make_search(n_trials=3, finalists={"k": 1, "seeds": [2]})

    class Stops(Told):
        def started(self, label: str) -> None:
            request_stop(here.study_folder(study.name), "a test wants it")

    outcome = run_study(study, here, Stops())
    assert (outcome.n_trials, outcome.n_finished, outcome.n_left, outcome.exit_code) == (5, 0, 5, 130)
    status = study_status(here.storage, study.name)
    assert {part: sum(states.values()) for part, states in status.parts.items()} == {"proposals": 3, "finalists": 2}
    assert status.launch.finalist_steps == 9


def test_a_warm_start_takes_what_lies_in_the_space(make_search: MakeSearch, here: StudySettings) -> None:
    narrow = {**SPACE, "model.d_model": {"choice": [4, 6]}}
    run_study(make_search(space=narrow, n_trials=8), here, Told())
    study, told = make_search(n_trials=3, warm_start=True), Told()
    outcome = run_study(study, here, told)
    # Of the eight runs of the first search four have a width that this one searches.
    assert told.beside_reads() == [
        "warm start: 4 finished trials of the workspace lie in the space",
        "search: 3 complete, 0 pruned, 0 failed of 3 proposals, and 4 known before",
    ]
    assert {record.params["model.d_model"] for record in optuna_trials(study, here)[:4]} == {4}
    assert (outcome.n_found, outcome.n_finished) == (0, 3)
    trials = fetch_trials(here.tracking_uri, study.name)
    assert trials["arm"].str.startswith("known-").sum() == 4
    repeated = Told()
    run_study(study, here, repeated)
    assert repeated.events == [("begin", "3 3")]
    assert repeated.beside_reads() == told.beside_reads()
    assert len(fetch_trials(here.tracking_uri, study.name)) == 7


def test_a_database_of_its_own(make_search: MakeSearch, here: StudySettings, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(here, search_database=f"sqlite:///{tmp_path}/proposals.db")
    study = make_search(n_trials=2)
    assert run_study(study, elsewhere, Told()).n_finished == 2
    assert len(optuna_trials(study, elsewhere)) == 2
    assert not (here.storage / "studies" / study.name / "optuna.journal").exists()
    assert run_study(study, elsewhere, Told()).n_found == 2


@pytest.mark.parametrize("n_workers", [1, 2])
def test_on_ray_trials_stop_themselves_and_leave_nothing_behind(
    make_search: MakeSearch, settings: StudySettings, n_workers: int
) -> None:
    import ray

    # The search began in this process. Two workers a trial take their time to start: they do the second one alone.
    n_trials = 4 if n_workers == 1 else 2
    pruner, told = {**ASHA, "reduction": n_trials}, Told()
    run_study(make_search(n_trials=1, pruner=pruner), dataclasses.replace(settings, backend=HERE), Told())
    study = make_search(n_trials=n_trials, pruner=pruner)
    there = dataclasses.replace(settings, backend=RayBackend(), resources=TrialResources(n_workers=n_workers))
    outcome = run_study(study, there, told)
    assert (outcome.n_found, outcome.failures, len(told.labels("started"))) == (1, {}, n_trials - 1)
    assert check_pruned(study, there, told)
    groups = ray.util.placement_group_table().values()
    assert {group["state"] for group in groups} <= {"REMOVED"}
