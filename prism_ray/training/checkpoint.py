"""The state of a run between two steps, on disk: enough to go on as if nothing had happened."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prism_ray.errors import CheckpointError, Fault

CHECKPOINT_NAME = "checkpoint.pt"
_FORMAT = 1


@dataclass
class RunState:
    """Everything of a run that its config and data do not give.

    Attributes:
        fingerprint: of the config that trained it.
        step: finished optimiser steps.
        model, optimizer: state dicts.
        best_model: weights at the best validation so far; None before the first.
        best: validation metrics there, and `step`.
        loss_sums: sums of the training losses since they were last reported, and their count.
        history: every metric reported so far, as {"step": ..., name: value}.
        train_s: seconds spent in training steps.
        generator: state of torch's CPU generator.
    """

    fingerprint: str
    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    best_model: dict[str, Any] | None
    best: dict[str, float]
    loss_sums: list[float]
    history: list[dict[str, float]]
    train_s: float
    generator: torch.Tensor


def save_state(folder: Path, state: RunState) -> None:
    """Write the state to `folder` so that a kill at any moment leaves the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{CHECKPOINT_NAME}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            torch.save({"format": _FORMAT, **vars(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / CHECKPOINT_NAME)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk is not to stay full of it
        raise


def remove_state(folder: Path) -> None:
    """Remove what `save_state` wrote to `folder`, and what is left where processes were killed in it."""
    for path in (folder / CHECKPOINT_NAME, *folder.glob(f".{CHECKPOINT_NAME}.*")):
        path.unlink(missing_ok=True)


def load_state(folder: Path, fingerprint: str) -> RunState | None:
    """State saved in `folder`; None where there is none.

    Raises:
        CheckpointError: the file is damaged, of another format or of a run with other settings.
    """
    content = _read(folder)
    if content is None:
        return None
    state = RunState(**content)
    if state.fingerprint != fingerprint:
        problem = f"belongs to a run with other settings (fingerprint {state.fingerprint[:16]})"
        raise _error(folder / CHECKPOINT_NAME, problem)
    return state


def saved_step(folder: Path) -> int:
    """Finished steps of the checkpoint in `folder`, 0 where there is none; its weights are not read.

    Raises:
        CheckpointError: the file is damaged or of another format.
    """
    content = _read(folder, mmap=True)
    return 0 if content is None else int(content["step"])


def _read(folder: Path, mmap: bool = False) -> dict[str, Any] | None:
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as problem:
        raise _error(path, f"cannot be read ({problem})") from None
    if content.pop("format", None) != _FORMAT:
        raise _error(path, "was written by another version of prism-ray")
    return content


def _error(path: Path, problem: str) -> CheckpointError:
    fault = Fault(str(path), problem, "delete it to train from the start, or give another folder")
    return CheckpointError(str(fault), [fault])
