"""What is said of a Ray Train run that fails, without starting one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import ray.train
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from prism_ray.config import RunConfig
from prism_ray.distributed import train as train_module
from prism_ray.distributed import trial as trial_module
from prism_ray.distributed.attempts import begin_attempt, end_attempt, read_attempts
from prism_ray.distributed.failures import FAILURE_NAME, note_failure, read_failure
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.distributed.stop_request import request_stop
from prism_ray.distributed.streaming import StreamError
from prism_ray.distributed.train import Pauses, _worker, train_on_workers
from prism_ray.distributed.trial import TrialTask
from prism_ray.errors import ConfigError, StoreError, TrainingError, WorkerLostError
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.reporter import Placement


@pytest.fixture
def task(tmp_path: Path) -> TrialTask:
    return TrialTask("study", "arm", "0123456789abcdef", RunConfig(), tmp_path / "store", "d", tmp_path / "trial")


def ends_with(monkeypatch: pytest.MonkeyPatch, end: object) -> None:
    """Let Ray Train end in a way: an error to raise, or a call."""

    class Trainer:
        def __init__(self, *_: object, **__: object) -> None: ...

        def fit(self) -> None:
            if isinstance(end, Exception):
                raise end
            assert callable(end)
            end()

    monkeypatch.setattr(train_module, "TorchTrainer", Trainer)


TRACEBACK = "[Rank 0 Error Snippet]:\nTraceback (most recent call last):\n  File ...\nOSError: full\n"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (
            WorkerGroupError(TRACEBACK, {1: RuntimeError("peer"), 0: OSError(28, "No space left on device")}),
            r"worker 0: OSError: \[Errno 28\] No space left on device",
        ),
        (WorkerGroupError("x", {1: MemoryError()}), "worker 1: MemoryError"),
        (WorkerGroupError("x", {0: RuntimeError("first\nsecond")}), "worker 0: RuntimeError: first"),
        (ControllerError(RuntimeError("no resources")), "no resources"),
        (ray.train.TrainingFailedError("a\nb\n"), "b"),
    ],
)
def test_the_reason_of_a_failure_is_one_line(
    end: Exception, reason: str, task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_with(monkeypatch, end)
    with pytest.raises(TrainingError, match=rf"^trial 0123456789abcdef \(arm, seed 2\): {reason}$"):
        train_on_workers(task)


def test_what_the_worker_noted_is_the_reason(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_with(monkeypatch, lambda: note_failure(task.folder, task.trial_id, TrainingError("the loss is nan")))
    with pytest.raises(TrainingError, match=r": TrainingError: the loss is nan$"):
        train_on_workers(task)


def test_the_reason_of_an_earlier_attempt_is_not_told_again(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    note_failure(task.folder, task.trial_id, TrainingError("the loss is nan"))
    ends_with(monkeypatch, WorkerGroupError("x", {0: MemoryError()}))
    with pytest.raises(TrainingError, match="MemoryError"):
        train_on_workers(task)
    assert not (task.folder / FAILURE_NAME).exists()


def test_workers_that_leave_nothing(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_with(monkeypatch, lambda: None)
    with pytest.raises(TrainingError, match="its workers ended without a record in"):
        train_on_workers(task)


def test_only_a_loss_that_every_worker_computes_ends_without_another_attempt(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "worker_placement", lambda resources: Placement())

    def fail(kind: type[Exception]) -> None:
        def run(*_: object, **__: object) -> None:
            raise kind("why")

        monkeypatch.setattr(train_module, "run_trial", run)
        _worker({"task": task})

    for kind in (TrainingError, StreamError, RunInterruptedError):
        fail(kind)  # does not raise: what raises is tried again
    for kind in (ConfigError, StoreError, OSError, MemoryError):
        with pytest.raises(kind):
            fail(kind)


def test_a_bug_of_one_worker_ends_all_and_is_not_met_twice(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "worker_placement", lambda resources: Placement(rank=1, n_workers=2))
    n_runs = []

    def run(*_: object, **__: object) -> None:
        n_runs.append(1)
        raise ValueError("shapes differ")

    monkeypatch.setattr(train_module, "run_trial", run)
    with pytest.raises(ValueError, match="shapes differ"):
        _worker({"task": task})  # raises, so that Ray Train ends the workers that wait for this one
    _worker({"task": task})
    assert n_runs == [1]
    failure = read_failure(task.folder)
    assert failure is not None
    assert failure.repeats


def test_workers_that_were_told_to_end_are_no_failure(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        begin_attempt(task.folder, "study", "launch", node="", gpus=0.0, first_step=0)
        end_attempt(task.folder, "interrupted", 7)

    ends_with(monkeypatch, end)
    with pytest.raises(RunInterruptedError, match="told to end after step 7 of"):
        train_on_workers(task)
    assert read_failure(task.folder) is None


def test_a_lost_worker_is_no_failure_of_the_trial(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> None:
        raise WorkerLostError("an exchange with the other workers broke off")

    monkeypatch.setattr(trial_module, "_run", lose)
    for rank in (0, 1):
        monkeypatch.setattr(
            train_module, "worker_placement", lambda resources, rank=rank: Placement(rank=rank, n_workers=2)
        )
        with pytest.raises(WorkerLostError):
            _worker({"task": task})  # raises, so that Ray Train starts all workers again
        assert read_failure(task.folder) is None
    assert [attempt.how for attempt in read_attempts(task.folder)] == ["died"]


def test_workers_start_again_after_ever_longer_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(train_module.time, "sleep", waits.append)
    pauses = Pauses(RetryPolicy(first_wait_s=0.5, most_wait_s=1.5), None)
    sums = []
    for _ in range(4):
        waits.clear()
        pauses.after_exception(None, {0: MemoryError()})
        sums.append(sum(waits))
    assert sums == [0.5, 1.0, 1.5, 1.5]

    request_stop(tmp_path, "enough")
    waits.clear()
    Pauses(RetryPolicy(), tmp_path).after_exception(None, {0: MemoryError()})
    assert waits == [], "a study that is told to stop does not wait"


def test_ray_train_is_given_the_policy_of_the_task(task: TrialTask, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    class Trainer:
        def __init__(self, *_: object, run_config: ray.train.RunConfig, **__: object) -> None:
            given.append(run_config)

        def fit(self) -> None:
            raise ControllerError(RuntimeError("no resources"))

    monkeypatch.setattr(train_module, "TorchTrainer", Trainer)
    with pytest.raises(TrainingError):
        train_on_workers(dataclasses.replace(task, retry=RetryPolicy(retries=7)))
    assert given[0].failure_config.max_failures == 7
    assert isinstance(given[0].callbacks[0], Pauses)
