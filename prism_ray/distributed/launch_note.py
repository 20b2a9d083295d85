"""`launch.json` of a study: everything that is needed to go on with a launch, or to say how far it is.

Beside it lies a copy of the study's file, under its own name, since that names the study. Credentials are not in it:
they come from the environment of whoever goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from prism_ray.distributed.workspace import STUDIES_NAME, study_folder, write_whole
from prism_ray.errors import Fault, FaultList, InputError, did_you_mean

LAUNCH_NAME = "launch.json"
MORE_TRIALS_NAME = "trials.jsonl"
"""Trials that were not known when the launch began: the proposals of a search, a line each."""
_VERSION = 1
_ADDED = {"n_finalists", "finalist_steps", "launch_id", "n_concurrent", "ends_by", "gpu_hours"}
"""What notes of earlier versions do not say."""


@dataclass(frozen=True)
class TrialNote:
    """A trial as people are told of it.

    Attributes:
        trial_id: names its folder.
        label: arm, seed and fold.
        n_steps: optimiser steps of its training.
        evaluates: whether it evaluates a trained model and trains none.
        multiply_adds: of the backbone in all of it; 0 where it was not noted.
        planned_s: seconds by measured steps; None where they were not measured.
    """

    trial_id: str
    label: str
    n_steps: int
    evaluates: bool = False
    multiply_adds: int = 0
    planned_s: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Who it is: a finalist may be the trial of a proposal as well, and is then noted as both."""
        return self.trial_id, self.label


@dataclass(frozen=True)
class LaunchNote:
    """One launch of a study.

    Attributes:
        study: name of the study, `-smoke` included.
        kind: of the study.
        study_file: path of its file, as it was given.
        study_text: what was in the file.
        smoke: whether it runs at its small scale.
        overrides: settings replaced for this launch, by dotted path.
        metric, direction: what the study chooses by, on validation genes.
        report_metric: what its report compares.
        store: the feature store.
        data_digest: of it.
        results_version: of the code that trains.
        tracking_uri: MLflow store, without credentials.
        parent_run_id: run of the study there.
        resources: what a trial takes.
        loading: how trials get their genes, as asked.
        max_concurrent: trials at once, as asked.
        address: Ray cluster, as asked.
        search_database: searcher's database, without credentials; None for a journal in the study's folder.
        n_trials: trials of the study; for a search those that it will have, its finalists included.
        n_found: of them finished before this launch, or stopped by their search.
        trials: those known when the launch began, in the order in which they are handed out.
        n_finalists: of `n_trials`, those of a search's finalists and the baseline beside them: at most, until the
            proposals have ended.
        finalist_steps: optimiser steps of each of these; 0 without any.
        launch_id: of the launch, as its trials' attempts have it.
        n_concurrent: trials at once; 0 as long as its cluster is not known.
        ends_by: when the study's budget of wall time ends it, seconds since 1970; None without.
        gpu_hours: that the study's budget has for all its launches; None without.
        host, pid: the process that drives the launch.
        started: when it began, seconds since 1970.
        command: how it was called.
    """

    study: str
    kind: str
    study_file: str
    study_text: str
    smoke: bool
    overrides: Mapping[str, Any]
    metric: str
    direction: str
    report_metric: str
    store: str
    data_digest: str
    results_version: int
    tracking_uri: str
    parent_run_id: str
    resources: Mapping[str, Any]
    loading: str
    max_concurrent: int | None
    address: str | None
    search_database: str | None
    n_trials: int
    n_found: int
    host: str
    pid: int
    started: float
    command: str
    trials: tuple[TrialNote, ...] = field(default=())
    n_finalists: int = 0
    finalist_steps: int = 0
    launch_id: str = ""
    n_concurrent: int = 0
    ends_by: float | None = None
    gpu_hours: float | None = None


def write_launch(storage: Path, note: LaunchNote) -> None:
    """Note a launch, in place of an earlier one of the same study; `launch.json` comes last."""
    folder = study_folder(storage, note.study)
    write_whole(copy_of_study(storage, note), note.study_text)
    content = {"version": _VERSION, **asdict(note)}
    content["trials"] = [list(asdict(trial).values()) for trial in note.trials]
    write_whole(folder / LAUNCH_NAME, json.dumps(content, indent=1))


def copy_of_study(storage: Path, note: LaunchNote) -> Path:
    """Where the copy of the study's file is."""
    return study_folder(storage, note.study) / Path(note.study_file).name


def note_slots(storage: Path, study: str, n_concurrent: int) -> None:
    """Add to the note of a launch how many trials run at once, once its cluster is known."""
    write_launch(storage, replace(read_launch(storage, study), n_concurrent=n_concurrent))


class MoreTrials:
    """Notes the trials of a launch that become known while it runs, each once.

    Args:
        storage: folder of the workspace.
        study: name of the study, whose launch is noted.
    """

    def __init__(self, storage: Path, study: str) -> None:
        self._path = study_folder(storage, study) / MORE_TRIALS_NAME
        self._known = {known.key for known in read_launch(storage, study).trials}

    def add(self, trial: TrialNote) -> None:
        """Append a trial that is not noted yet."""
        if trial.key in self._known:
            return
        self._known.add(trial.key)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(list(asdict(trial).values())) + "\n")


def read_launch(storage: Path, study: str) -> LaunchNote:
    """The last launch of a study, with all trials that are known by now.

    Raises:
        InputError: the workspace or the study is not there, or its note is damaged.
    """
    path = study_folder(storage, study) / LAUNCH_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("version") != _VERSION:
            raise ValueError("it was written by another version of prism-ray")
        expected = {item.name for item in fields(LaunchNote)}
        if content.keys() | _ADDED != expected:
            raise ValueError(f"it does not hold just {', '.join(sorted(expected))}")
        trials = [TrialNote(*trial) for trial in content.pop("trials")]
    except FileNotFoundError:
        raise _unknown(storage, study) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        fault = Fault(str(path), f"cannot be read ({problem})", "run the study's file again: it does what is missing")
        raise InputError(str(fault), [fault]) from None
    # What an earlier launch of a search has noted of a trial comes after what this one has.
    known: dict[tuple[str, str], TrialNote] = {}
    for trial in (*trials, *_more_trials(storage, study)):
        known.setdefault(trial.key, trial)
    return LaunchNote(**content, trials=tuple(known.values()))


def launched_studies(storage: Path) -> list[str]:
    """Names of the studies that were launched in a workspace."""
    return sorted(path.parent.name for path in (storage / STUDIES_NAME).glob(f"*/{LAUNCH_NAME}"))


def was_launched(storage: Path, study: str) -> bool:
    """Whether a launch of the study has begun in a workspace."""
    return (study_folder(storage, study) / LAUNCH_NAME).is_file()


def _more_trials(storage: Path, study: str) -> Iterable[TrialNote]:
    try:
        lines = (study_folder(storage, study) / MORE_TRIALS_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield TrialNote(*json.loads(line))
        except (ValueError, TypeError):
            continue  # cut off when the driver was killed: the next launch proposes the trial again


def _unknown(storage: Path, study: str) -> InputError:
    faults = FaultList()
    if not storage.is_dir():
        faults.add(f"--storage {storage}", "is no folder", "give the --storage that the study was run with")
    else:
        known = launched_studies(storage)
        fix = did_you_mean(study, known) if known else "no study was run in it; is it the --storage of the run?"
        faults.add(f"workspace {storage}", f"has no study {study!r} that was run", fix)
    return InputError("\n".join(map(str, faults.faults)), faults.faults)
