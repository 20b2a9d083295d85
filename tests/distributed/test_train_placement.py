"""What a trial's resources mean for the processes that train it, and what a notice to end does to its record."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray.train
import torch

import prism_ray.store
from prism_ray.cli.options import add_resources, trial_resources
from prism_ray.config import RunConfig
from prism_ray.distributed import train as train_module
from prism_ray.distributed import trial as trial_module
from prism_ray.distributed.failures import FAILURE_NAME
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.train import PreemptionNotice
from prism_ray.distributed.trial import TrialTask, run_trial
from prism_ray.errors import InputError, TrainingError
from prism_ray.tracking import NullTracker
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneSource, as_source


def test_flags_reach_the_placement() -> None:
    parser = argparse.ArgumentParser()
    add_resources(parser)
    flags = ["--workers", "4", "--micro-batch", "2", "--checkpoint-activations", "--checkpoint-every", "7"]
    resources = trial_resources(parser.parse_args(flags))
    placement = resources.placement(torch.device("cpu"), rank=3)
    assert placement == Placement(
        rank=3, n_workers=4, checkpoint_every_steps=7, micro_batch=2, checkpoint_activations=True
    )
    default = trial_resources(parser.parse_args([])).placement(torch.device("cpu"))
    assert default == Placement()


def test_a_negative_micro_batch_is_refused() -> None:
    with pytest.raises(InputError, match="micro_batch: -1 cannot be; use 0 or more"):
        TrialResources(micro_batch=-1)


@pytest.mark.parametrize("has_question", [True, False])
def test_a_preemption_asks_for_one_checkpoint(has_question: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    n_asked = 0

    def info() -> object | None:
        nonlocal n_asked
        n_asked += 1
        return object() if n_asked >= 2 else None

    monkeypatch.delattr(ray.train, "get_preemption_info", raising=False)
    if has_question:
        monkeypatch.setattr(ray.train, "get_preemption_info", info, raising=False)
    notice = PreemptionNotice()
    steps = [step for step in range(1, 61) if notice()]
    assert steps == ([2 * train_module._STEPS_A_QUESTION] if has_question else [])
    assert n_asked == (2 if has_question else 0)


class Closing(NullTracker):
    """Keeps the status that a trial's run was closed with."""

    def __init__(self) -> None:
        self.statuses: list[str] = []

    def open_trial(self, *args: Any, **kwargs: Any) -> Any:
        log = super().open_trial(*args, **kwargs)
        log.finish = self.statuses.append  # type: ignore[method-assign]
        return log


@pytest.fixture
def ended(
    tmp_path: Path, simulated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Exception], tuple[TrialTask, list[str]]]:
    """Runs a trial whose training ends with an error; gives the task and the status of its run."""

    def run(problem: Exception) -> tuple[TrialTask, list[str]]:
        def fail(*_: object, **__: object) -> None:
            raise problem

        tracker = Closing()
        monkeypatch.setattr(trial_module, "train", fail)
        monkeypatch.setattr(trial_module, "gene_source", lambda *_: source_of(simulated_store))
        monkeypatch.setattr(TrialTask, "tracker", lambda task: tracker)
        config = RunConfig.model_validate({"data": {"fold": "fold_1"}})
        task = TrialTask("s", "a", "0" * 16, config, simulated_store, "d", tmp_path / "trial")
        with pytest.raises(type(problem)):
            run_trial(task, Placement())
        return task, tracker.statuses

    return run


def source_of(store: Path) -> GeneSource:
    return as_source(prism_ray.store.open(store).load(256, ["h3k27ac"], "K562"))


def test_an_interrupted_trial_has_no_failure(ended: Callable[[Exception], tuple[TrialTask, list[str]]]) -> None:
    task, statuses = ended(RunInterruptedError("told to end after step 5 of 12"))
    assert statuses == ["KILLED"]
    assert not (task.folder / FAILURE_NAME).exists()


def test_a_failed_trial_has_one(ended: Callable[[Exception], tuple[TrialTask, list[str]]]) -> None:
    task, statuses = ended(TrainingError("1 genes of 200000 bp do not fit in the memory of cuda"))
    assert statuses == ["FAILED"]
    assert "do not fit" in (task.folder / FAILURE_NAME).read_text()
