"""Where things lie in a workspace, and files that are there whole or not at all.

Folders of a workspace (`storage`), which every node must see:

    <storage>/trials/<trial id>/   a trial: record, checkpoint, attempts, progress; shared by all studies that have it
    <storage>/studies/<study>/     a study: launch.json, a copy of its file, driver.json, stop.json, search database
    <storage>/mlflow.db, mlartifacts/   default tracking store
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from prism_ray.errors import Fault, InputError
from prism_ray.features.urls import is_remote, shown
from prism_ray.tracking import JOURNAL_NAME

TRIALS_NAME = "trials"
STUDIES_NAME = "studies"
LEASE_NAME = "lease.json"
"""In a trial's folder: who trains it."""


def workspace_fault(text: str) -> Fault | None:
    """What is wrong with a workspace that is given as an address: it cannot be in a bucket."""
    if not is_remote(text):
        return None
    return Fault(
        f"--storage {shown(text)}",
        "is in no file system, and a workspace needs locks, renames in one act and files that grow: checkpoints, "
        "leases and searches rest on them",
        "give a folder on storage that every node mounts (NFS, EFS, Filestore, Lustre, a ReadWriteMany volume); "
        "the feature store and MLflow's artifacts may be in a bucket",
    )


def trial_folder(storage: Path, trial_id: str) -> Path:
    """Folder of a trial."""
    return storage / TRIALS_NAME / trial_id


def study_folder(storage: Path, study: str) -> Path:
    """Folder of a study, by its name.

    Raises:
        InputError: the name is no name of a study, but a way out of the workspace.
    """
    if not is_file_name(study):
        fault = Fault(f"study {study!r}", "is no name of a study", "give it as `prism-ray study list` has it")
        raise InputError(str(fault), [fault])
    return storage / STUDIES_NAME / study


def is_file_name(text: str) -> bool:
    """Whether a text can only be the name of something inside a folder, and leads nowhere else."""
    return text not in ("", ".", "..") and not any(mark in text for mark in ("/", "\\", "\0"))


def trial_journals(storage: Path) -> list[Path]:
    """Journals of all trials that have something for their tracker.

    Raises:
        InputError: there is no such folder.
    """
    if not storage.is_dir():
        fault = Fault(f"--storage {storage}", "is no folder", "give the --storage that the studies were run with")
        raise InputError(str(fault), [fault])
    return sorted((storage / TRIALS_NAME).glob(f"*/{JOURNAL_NAME}"))


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one; its folder is made.

    Args:
        durable: see to it that the text outlives a loss of power too, for some milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk is not to stay full of it
        raise


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no such file, or something else is in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
