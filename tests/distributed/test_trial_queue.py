"""Which trial runs next: retries, pauses, lost nodes, stops and caps, without a backend."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from prism_ray.config import EvaluationConfig, RunConfig
from prism_ray.distributed import nodes
from prism_ray.distributed.attempts import begin_attempt, read_attempts
from prism_ray.distributed.budget_watch import BudgetWatch
from prism_ray.distributed.failures import read_failure
from prism_ray.distributed.nodes import NodeWatch
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.distributed.searcher import FAILURE_KEY
from prism_ray.distributed.stop_request import clear_stop, read_stop, request_stop
from prism_ray.distributed.study_ablation import largest_first
from prism_ray.distributed.trial import TrialTask
from prism_ray.distributed.trial_queue import INTERRUPTED_KEY, GivenTrials, TrialQueue
from prism_ray.errors import InputError
from prism_ray.study.spec import Budget
from tests.distributed.conftest import Told, tiny_study
from tests.distributed.workspaces import recorded

AT_ONCE = RetryPolicy(retries=2, first_wait_s=0)
DONE = {"val/mse": 0.5, FAILURE_KEY: ""}


class Tasks:
    """Makes tasks of names, in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        name = proposal["trial"]
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return TrialTask("s", name, name, RunConfig(), self._folder / "store", "d", folder)


def test_of_one_seed_the_largest_comes_first_and_seeds_stay_together(tmp_path: Path) -> None:
    sizes = {"n0": {"n_states": 0}, "n8": {"n_states": 8}, "n2": {"n_states": 2}, "also n2": {"n_states": 2}}
    tasks = []
    for seed in (22, 2):
        for name, size in sizes.items():
            model = RunConfig().model.model_copy(update=size)
            config = RunConfig().model_copy(update={"seed": seed, "model": model})
            tasks.append(TrialTask("s", f"{name} {seed}", f"{name} {seed}", config, tmp_path, "d", tmp_path))
    evaluation = RunConfig().model_copy(update={"seed": 22, "evaluation": EvaluationConfig(window_bp=500)})
    tasks.insert(0, TrialTask("s", "cut 22", "cut 22", evaluation, tmp_path, "d", tmp_path))
    assert [task.arm for task in largest_first(tasks)] == [
        *("n8 22", "n2 22", "also n2 22", "n0 22", "cut 22"),
        *("n8 2", "n2 2", "also n2 2", "n0 2"),
    ]


class Recorded(GivenTrials):
    """Keeps what a searcher is told."""

    def __init__(self, trial_ids: tuple[str, ...]) -> None:
        super().__init__(trial_ids)
        self.told: list[tuple[str, object, bool]] = []

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self.told.append((trial_id, dict(result), False))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        self.told.append((trial_id, result, error))


def queue_of(folder: Path, *names: str, **options: Any) -> tuple[TrialQueue, Told, Recorded]:
    told, searcher = Told(), Recorded(names)
    return TrialQueue(searcher, Tasks(folder), told, **{"retry": AT_ONCE, **options}), told, searcher


def test_trials_come_in_turn_and_the_queue_ends_when_all_have(tmp_path: Path) -> None:
    queue, told, searcher = queue_of(tmp_path, "a", "b")
    assert queue.suggest("1") == {"trial": "a"}
    assert queue.suggest("2") == {"trial": "b"}
    assert queue.suggest("3") is None, "one that runs may die and come again"
    queue.on_trial_result("1", DONE)
    queue.on_trial_complete("1", DONE)
    queue.on_trial_complete("2", {FAILURE_KEY: "TrainingError: nan"})
    assert queue.suggest("4") == Searcher.FINISHED
    assert searcher.told == [("1", DONE, False), ("1", DONE, False), ("2", {FAILURE_KEY: "TrainingError: nan"}, False)]
    assert [event for event, _ in told.events] == ["started", "started", "finished", "failed"]
    assert queue.failures == {"b": "TrainingError: nan"}


def test_a_trial_whose_process_dies_comes_again_so_often_and_then_failed(tmp_path: Path) -> None:
    queue, told, searcher = queue_of(tmp_path, "a")
    for start in ("1", "2", "3"):
        assert queue.suggest(start) == {"trial": "a"}
        begin_attempt(tmp_path / "a", "s", "launch", node="n", gpus=0, first_step=0)
        queue.on_trial_complete(start, None, error=True)
    assert queue.suggest("4") in (None, Searcher.FINISHED)
    assert queue.suggest("5") == Searcher.FINISHED
    assert searcher.told == [("1", None, True)], "the searcher knows it by its first name, and hears of it once"
    assert told.labels("failed") == {"a seed 2 fold_11"}
    failure = read_failure(tmp_path / "a")
    assert failure is not None
    assert "its process died 3 times in this launch on " in failure.reason
    assert not failure.repeats
    assert [attempt.how for attempt in read_attempts(tmp_path / "a")] == ["died"] * 3


def test_a_lost_node_is_no_failure_of_the_trial(tmp_path: Path) -> None:
    policy = dataclasses.replace(AT_ONCE, retries=0, lost_nodes=2)
    queue, told, _ = queue_of(tmp_path, "a", retry=policy, node_is_lost=lambda node: node == "gone")
    for start in ("1", "2", "3"):
        assert queue.suggest(start) == {"trial": "a"}
        begin_attempt(tmp_path / "a", "s", "launch", node="gone", gpus=0, first_step=0)
        queue.on_trial_complete(start, None, error=True)
    assert queue.suggest("4") in (None, Searcher.FINISHED), "even nodes are not lost for ever"
    assert [attempt.how for attempt in read_attempts(tmp_path / "a")] == ["node lost"] * 3
    assert told.labels("failed")


def test_a_death_is_not_judged_before_it_is_known_whether_its_node_is_gone(tmp_path: Path) -> None:
    known: list[bool | None] = [None]
    policy = RetryPolicy(retries=0, first_wait_s=0)
    queue, told, _ = queue_of(tmp_path, "a", retry=policy, node_is_lost=lambda node: known[0])
    queue.suggest("1")
    begin_attempt(tmp_path / "a", "s", "launch", node="silent", gpus=0, first_step=0)
    queue.on_trial_complete("1", None, error=True)
    for _ in range(3):
        assert queue.suggest("2") is None
    assert read_attempts(tmp_path / "a")[0].how == ""
    known[0] = True
    assert queue.suggest("3") == {"trial": "a"}
    assert [attempt.how for attempt in read_attempts(tmp_path / "a")] == ["node lost"]
    assert told.labels("failed") == set()


@pytest.mark.ray
def test_a_node_that_answers_is_not_lost_and_one_that_nobody_knows_is(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    (node,) = [known["NodeID"] for known in ray.nodes() if known["Alive"]]
    watch = NodeWatch()
    assert watch("f" * len(node)) is True
    answers = [watch(node)]
    while answers[-1] is None:
        time.sleep(0.02)
        answers.append(watch(node))
    assert answers[-1] is False
    monkeypatch.setattr(nodes, "_SILENCE_S", -1.0)
    monkeypatch.setattr(ray, "wait", lambda *_, **__: ([], []))
    assert watch(node) is True, "one that says nothing for long is lost, whatever the cluster says"


def test_it_waits_longer_before_each_start_and_others_go_first(tmp_path: Path) -> None:
    policy = RetryPolicy(retries=9, first_wait_s=2, most_wait_s=10)
    assert [policy.wait_s(n) for n in (1, 2, 3, 4, 5000)] == [2, 4, 8, 10, 10]
    queue, _, _ = queue_of(tmp_path, "a", "b", retry=RetryPolicy(first_wait_s=0.3))
    queue.suggest("1")
    queue.on_trial_complete("1", None, error=True)
    died = time.monotonic()
    assert queue.suggest("2") == {"trial": "b"}
    while (again := queue.suggest("3")) is None:
        time.sleep(0.01)
    assert again == {"trial": "a"}
    assert time.monotonic() - died >= 0.3


@pytest.mark.parametrize("name", ["retries", "lost_nodes", "first_wait_s", "most_wait_s"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_impossible_policies_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"retry\.{name}: .* cannot be; use 0 or more"):
        RetryPolicy(**{name: value})


def test_an_interrupted_trial_is_neither_failed_nor_finished(tmp_path: Path) -> None:
    queue, told, searcher = queue_of(tmp_path, "a")
    queue.suggest("1")
    result = {"val/mse": math.nan, INTERRUPTED_KEY: "told to end after step 3 of 9"}
    queue.on_trial_result("1", result)
    queue.on_trial_complete("1", result)
    assert told.labels("interrupted") == {"a seed 2 fold_11"}
    assert queue.failures == {}
    assert searcher.told == [("1", None, False)], "a search proposes it again in the next launch"


def test_a_request_to_stop_ends_it_with_what_died(tmp_path: Path) -> None:
    queue, _, _ = queue_of(tmp_path, "a", "b", stopped=lambda: read_stop(tmp_path) is not None)
    queue.suggest("1")
    queue.on_trial_complete("1", None, error=True)
    request_stop(tmp_path, "enough")
    request_stop(tmp_path, "another reason")
    stop = read_stop(tmp_path)
    assert stop is not None
    assert (stop.reason, stop.kind) == ("enough", "user")
    assert queue.suggest("2") == Searcher.FINISHED
    clear_stop(tmp_path)
    assert queue.suggest("3") == {"trial": "a"}


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (
            Budget(max_failures=2),
            "2 trials failed, and {path}: budget.max_failures is 2; what is finished stays",
        ),
        (Budget(gpu_hours=1.0), "1 GPU-hours are used, and {path}: budget.gpu_hours is 1;"),
        (Budget(wall_hours=0.5), "0.5 hours have passed, and {path}: budget.wall_hours is 0.5; what is finished stays"),
        (Budget(max_failures=3, gpu_hours=1.1, wall_hours=0.6), None),
        (Budget(), None),
    ],
)
def test_caps_ask_the_launch_to_stop(tmp_path: Path, budget: Budget, said: str | None) -> None:
    study = dataclasses.replace(tiny_study(tmp_path), budget=budget)
    queue, _, _ = queue_of(tmp_path, "a", "b")
    queue.suggest("1")
    queue.on_trial_complete("1", {FAILURE_KEY: "nan"})
    started = time.monotonic() - 1800
    with BudgetWatch(
        study,
        tmp_path,
        queue,
        gpus=1,
        spent_gpu_hours=1.0,
        failed_before=frozenset({"a", "earlier"}),
        started=started,
    ) as watch:
        pass
    stop = read_stop(tmp_path)
    assert (stop is None) == (said is None) == (watch.reason() is None)
    if stop is not None and said is not None:
        assert stop.reason.startswith(said.format(path=study.path))
        assert stop.kind == "budget"


def test_what_finished_though_its_process_counts_as_dead_is_no_failure(tmp_path: Path) -> None:
    """A process that was cut off from the cluster may come to the end of its trial before anybody runs it again."""
    queue, told, _ = queue_of(tmp_path, "a", retry=RetryPolicy(retries=0, first_wait_s=0))
    queue.suggest("1")
    queue.on_trial_complete("1", None, error=True)
    recorded(tmp_path, "a", "d", RunConfig(), train_s=1.0)
    (tmp_path / "trials" / "a" / "result.json").rename(tmp_path / "a" / "result.json")
    assert queue.suggest("2") == {"trial": "a"}, "whoever runs it finds the record, and tracks it"
    assert told.labels("failed") == set()
    assert not (tmp_path / "a" / "failure.json").exists()


@pytest.mark.parametrize("dies", [False, True])
def test_no_trial_is_handed_out_once_the_last_failure_is_known(tmp_path: Path, dies: bool) -> None:
    policy = RetryPolicy(retries=0, first_wait_s=0)
    queue, told, _ = queue_of(tmp_path, "a", "b", retry=policy, stopped=lambda: bool(told.labels("failed")))
    queue.suggest("1")
    if dies:
        queue.on_trial_complete("1", None, error=True)
    else:
        queue.on_trial_complete("1", {FAILURE_KEY: "nan"})
    assert queue.suggest("2") == Searcher.FINISHED
    assert told.labels("failed") == {"a seed 2 fold_11"}


def test_what_is_held_counts_while_it_runs_and_afterwards(tmp_path: Path) -> None:
    queue, _, _ = queue_of(tmp_path, "a", "b")
    queue.suggest("1")
    queue.suggest("2")
    time.sleep(0.05)
    running = queue.held_s()
    assert running >= 0.1
    queue.on_trial_complete("1", DONE)
    queue.on_trial_complete("2", DONE)
    assert queue.held_s() >= running
    assert queue.held_s() == queue.held_s()
