"""What SIGTERM does to a process that trains, and to one that does not."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from prism_ray.config import RunConfig
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.loop import train
from prism_ray.training.preemption import termination_noticed


def test_a_notice_is_kept_and_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination_noticed() as told:
        assert not told()
        signal.raise_signal(signal.SIGTERM)
        assert told()
    assert signal.getsignal(signal.SIGTERM) is before
    with termination_noticed() as told:
        assert not told()


def test_a_handler_that_would_end_the_process_waits_for_the_run() -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
    try:
        with termination_noticed() as told:
            signal.raise_signal(signal.SIGTERM)
            assert told()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_handler_before_comes_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), termination_noticed():
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_leave_signals_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with termination_noticed() as told:
            found.extend([signal.getsignal(signal.SIGTERM), told()])

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before, False]


def test_a_run_that_keeps_no_checkpoint_is_ended_as_usual(
    config: RunConfig, arrays: GeneArrays, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a notice without a checkpoint would lose the run")

    monkeypatch.setattr(signal, "signal", refuse)
    train(config.model_copy(update={"training": config.training.model_copy(update={"n_steps": 1})}), arrays, split)
