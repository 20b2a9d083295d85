"""Which trials a workspace has, told from its folders alone: no engine, no tracker."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from prism_ray.config import RunConfig
from prism_ray.study.identity import trial_id
from prism_ray.training.record import RESULT_NAME, TrialRecord, read_record

_LAUNCH_NAME = "launch.json"
_MORE_TRIALS_NAME = "trials.jsonl"
_MOST_RECORDS = 40
"""Records that are read to learn what a step takes: some of each kind, not all of thousands."""


def finished_among(storage: Path, identities: Iterable[str]) -> set[str]:
    """Those of some trials that have a record."""
    trials = storage / "trials"
    try:
        there = {entry.name for entry in trials.iterdir()}
    except FileNotFoundError:
        return set()
    return {identity for identity in there.intersection(identities) if (trials / identity / RESULT_NAME).is_file()}


def records_like(storage: Path, configs: Sequence[RunConfig], digest: str) -> list[TrialRecord]:
    """Records of some finished trials among these runs, spread over all of them.

    Raises:
        CheckpointError: a record is damaged.
    """
    every = max(1, len(configs) // _MOST_RECORDS)
    identities = [trial_id(config, digest) for config in configs[::every]]
    finished = finished_among(storage, identities)
    found = (read_record(storage / "trials" / identity) for identity in identities if identity in finished)
    return [record for record in found if record is not None]


def trials_of_other_studies(storage: Path, study: str) -> tuple[set[str], set[str]]:
    """Trials that launches of other studies of the workspace contain, and those of the study's own launches."""
    elsewhere: set[str] = set()
    here: set[str] = set()
    for note in storage.glob(f"studies/*/{_LAUNCH_NAME}"):
        (here if note.parent.name == study else elsewhere).update(_trials(note.parent))
    return elsewhere, here


def _trials(folder: Path) -> set[str]:
    """Identities of the trials that a study's last launch noted: those known at its start, and later proposals."""
    notes = json.loads((folder / _LAUNCH_NAME).read_text(encoding="utf-8"))["trials"]
    more = folder / _MORE_TRIALS_NAME
    if more.is_file():
        lines = more.read_text(encoding="utf-8").splitlines()
        # A driver that was killed may leave the last line cut.
        notes = [*notes, *(json.loads(line) for line in lines if line.endswith("]"))]
    return {note[0] for note in notes}
