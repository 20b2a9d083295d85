"""What a user does with a launch that is under way, or that ended before its time: go on, try again, cancel."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import prism_ray.store
import prism_ray.tracking
from prism_ray.distributed.driver import DRIVER_NAME
from prism_ray.distributed.failures import forget_failure
from prism_ray.distributed.launch_note import LaunchNote, copy_of_study, read_launch
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.packing import AUTO, pack
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.stop_request import clear_stop, request_stop
from prism_ray.distributed.study_status import StudyStatus, living_holder, study_status
from prism_ray.distributed.workspace import study_folder, trial_folder, write_whole
from prism_ray.errors import BusyError, Fault, InputError, TrackingError
from prism_ray.study.load import load_study
from prism_ray.study.spec import Study
from prism_ray.tracking import is_redacted, with_credentials

_LOOK_S = 0.5


@dataclass(frozen=True)
class Resumed:
    """A launch to go on with.

    Attributes:
        study: as it was launched.
        settings: where and how it runs.
        notes: what the user should know, a line each.
    """

    study: Study
    settings: StudySettings
    notes: tuple[str, ...]


def resumed_launch(storage: Path, name: str, tracking_uri: str | None = None, **changes: Any) -> Resumed:
    """The last launch of a study, to be run again: the copy of its file, with the same settings.

    Args:
        storage: folder of the workspace.
        name: of the study.
        tracking_uri: MLflow store instead of the launch's.
        changes: other settings of `StudySettings` that replace those of the launch, or of its `TrialResources`, where
            `gpus_per_worker` may be `auto`.

    Raises:
        InputError: the study was never run here, its store holds other data now, or its copy cannot be read.
    """
    note = read_launch(storage, name)
    copy = copy_of_study(storage, note)
    if not copy.is_file() or copy.read_text(encoding="utf-8") != note.study_text:
        write_whole(copy, note.study_text)
    study = load_study(copy, smoke=note.smoke, overrides=note.overrides)
    resources, remarks = _resources(study, storage, note, changes)
    settings = StudySettings(
        store=prism_ray.store.place_of(note.store),
        storage=storage,
        tracking_uri=with_credentials(note.tracking_uri, tracking_uri),
        resources=resources,
        max_concurrent=note.max_concurrent,
        address=note.address,
        loading=note.loading,  # type: ignore[arg-type]  # checked where the launch begins
        study_file=Path(note.study_file),
        search_database=note.search_database,
    )
    settings = replace(settings, **changes)
    _refuse_hidden_database(storage, note, settings)
    _refuse_other_data(note, settings)
    return Resumed(study, settings, (*_what_changed(note, copy), *remarks))


def _resources(
    study: Study, storage: Path, note: LaunchNote, changes: dict[str, Any]
) -> tuple[TrialResources, tuple[str, ...]]:
    """What each trial takes: as in the launch, but for what `changes` has of it, which is taken out of them."""
    asked = {**note.resources, **{key: changes.pop(key) for key in note.resources if key in changes}}
    if asked["gpus_per_worker"] != AUTO:
        return TrialResources(**asked), ()
    packing = pack(study, storage, TrialResources(**{**asked, "gpus_per_worker": 0.0}))
    return packing.each, (str(packing),)


def _refuse_hidden_database(storage: Path, note: LaunchNote, settings: StudySettings) -> None:
    """Refuse to go on with a searcher's database whose credentials were not noted.

    Raises:
        InputError: it is that of the launch, and its address has a hidden part.
    """
    if is_redacted(settings.search_database or ""):
        fault = Fault(
            f"searcher's database {note.search_database}",
            "has credentials, which are not kept in the workspace",
            f"give it again: prism-ray resume {note.study} --storage {storage} --search-database URL",
        )
        raise InputError(str(fault), [fault])


def retried_launch(storage: Path, name: str, tracking_uri: str | None = None, **changes: Any) -> tuple[Resumed, int]:
    """As `resumed_launch`, with the failures of its trials forgotten, and how many these were.

    Raises:
        BusyError: a driver runs the study.
        InputError: as `resumed_launch`; nothing is forgotten then.
    """
    resumed = resumed_launch(storage, name, tracking_uri, **changes)
    driver = living_holder(study_folder(storage, name) / DRIVER_NAME)
    if driver is not None:
        fault = Fault(f"study {name}", f"is being run ({driver})", f"wait for it, or stop it: prism-ray cancel {name}")
        raise BusyError(str(fault), [fault])
    failed = [trial for trial in study_status(storage, name).trials if trial.state == "failed"]
    return resumed, sum(forget_failure(trial_folder(storage, trial.trial_id)) for trial in failed)


@dataclass(frozen=True)
class Cancelled:
    """What became of a launch that was to be cancelled.

    Attributes:
        status: of the study afterwards.
        was_running: whether its driver lived.
        was_left: whether its driver had been killed, so that this closed what it left.
        living: processes that still live.
        problem: why its runs in MLflow could not be closed; empty where they were.
    """

    status: StudyStatus
    was_running: bool
    was_left: bool
    living: tuple[str, ...]
    problem: str = ""


def cancel_study(
    storage: Path,
    name: str,
    *,
    wait_s: float,
    tracking_uri: str | None = None,
    tell: Callable[[StudyStatus], None] = lambda status: None,
) -> Cancelled:
    """End the launch of a study: its trials save and end, and so does its driver, which closes their runs in MLflow.

    Where the driver was killed, this does what it could not: runs that count as running are ended as killed, journals
    are delivered, its scratch is removed. Its actors and placement groups went with it: Ray ends what a driver owns.

    Args:
        storage: folder of the workspace.
        name: of the study.
        wait_s: longest wait for processes to end, seconds.
        tracking_uri: MLflow store instead of the launch's.
        tell: is told now and then what is waited for.

    Raises:
        InputError: the study was never run here.
    """
    note = read_launch(storage, name)
    folder = study_folder(storage, name)
    was_running = living_holder(folder / DRIVER_NAME) is not None
    # A driver that ends by itself gives its lease back.
    was_left = not was_running and (folder / DRIVER_NAME).exists()
    request_stop(folder, f"prism-ray cancel {name}")
    end = time.monotonic() + wait_s
    while (living := _living(study_status(storage, name))) and time.monotonic() < end:
        tell(study_status(storage, name))
        time.sleep(_LOOK_S)
    if living:
        return Cancelled(study_status(storage, name), was_running, was_left, living)
    clear_stop(folder)
    problem = _close(storage, note, tracking_uri) if was_left else ""
    return Cancelled(study_status(storage, name), was_running, was_left, (), problem)


def _living(status: StudyStatus) -> tuple[str, ...]:
    running = [f"{trial.label} ({trial.where})" for trial in status.trials if trial.state == "running"]
    return (*([f"the driver ({status.driver})"] if status.driver is not None else []), *running)


def _close(storage: Path, note: LaunchNote, tracking_uri: str | None) -> str:
    """Do what a driver does at its end, in place of one that was killed; the problem where the tracker is away."""
    for scratch in study_folder(storage, note.study).glob("tune-*"):
        shutil.rmtree(scratch, ignore_errors=True)
    try:
        uri = with_credentials(note.tracking_uri, tracking_uri)
        prism_ray.tracking.deliver_journals(_journals(storage, note), uri)
        prism_ray.tracking.MlflowTracker(uri).close_study(note.parent_run_id, "KILLED", {})
    except TrackingError as problem:
        return str(problem)
    return ""


def _journals(storage: Path, note: LaunchNote) -> Iterable[Path]:
    paths = (trial_folder(storage, trial.trial_id) / prism_ray.tracking.JOURNAL_NAME for trial in note.trials)
    return [path for path in paths if path.exists()]


def _refuse_other_data(note: LaunchNote, settings: StudySettings) -> None:
    digest = prism_ray.store.open(settings.store).digest
    if digest != note.data_digest:
        fault = Fault(
            f"store {settings.store}",
            f"holds other data (digest {digest[:16]}) than the launch of {note.study} read ({note.data_digest[:16]})",
            "give its --store, or run the study's file: on other data it is another launch",
        )
        raise InputError(str(fault), [fault])


def _what_changed(note: LaunchNote, copy: Path) -> Iterable[str]:
    file = Path(note.study_file)
    if file.is_file() and file.read_text(encoding="utf-8") != note.study_text:
        yield f"{file} has changed since the launch: {copy} is what goes on; run the changed file to start with it"
