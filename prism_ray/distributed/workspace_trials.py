"""Which trials a workspace has, told from its folders alone: no engine, no tracker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from prism_ray.config import RunConfig
from prism_ray.distributed.launch_note import TrialNote, launched_studies, read_launch
from prism_ray.distributed.pruning import PRUNED_NAME
from prism_ray.distributed.workspace import TRIALS_NAME, trial_folder
from prism_ray.study.identity import trial_id
from prism_ray.training.record import RESULT_NAME, TrialRecord, read_record

_MOST_RECORDS = 40
"""Records that are read to learn what a step takes: some of each kind, not all of thousands."""


def finished_among(storage: Path, identities: Iterable[str]) -> set[str]:
    """Those of some trials that have a record."""
    there = _folders(storage).intersection(identities)
    return {identity for identity in there if (trial_folder(storage, identity) / RESULT_NAME).is_file()}


def pruned_among(storage: Path, identities: Iterable[str]) -> set[str]:
    """Those of some proposals that their search has stopped, and that nobody has finished since."""
    there = _folders(storage).intersection(identities) - finished_among(storage, identities)
    return {identity for identity in there if (trial_folder(storage, identity) / PRUNED_NAME).is_file()}


def records_like(storage: Path, configs: Sequence[RunConfig], digest: str) -> list[TrialRecord]:
    """Records of some finished trials among these runs, spread over all of them.

    Raises:
        CheckpointError: a record is damaged.
    """
    every = max(1, len(configs) // _MOST_RECORDS)
    identities = [trial_id(config, digest) for config in configs[::every]]
    finished = finished_among(storage, identities)
    found = (read_record(trial_folder(storage, identity)) for identity in identities if identity in finished)
    return [record for record in found if record is not None]


def noted_trials(storage: Path) -> dict[str, tuple[TrialNote, ...]]:
    """Trials of the last launch of each study of the workspace, by the study's name.

    Raises:
        InputError: the note of a launch is damaged.
    """
    return {name: read_launch(storage, name).trials for name in launched_studies(storage)}


def _folders(storage: Path) -> set[str]:
    try:
        return {entry.name for entry in (storage / TRIALS_NAME).iterdir()}
    except FileNotFoundError:
        return set()
