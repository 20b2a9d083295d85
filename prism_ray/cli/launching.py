"""What `run`, `resume` and `retry` share: a launch with its progress, its summary and its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prism_ray.distributed.launch import StudySettings
    from prism_ray.distributed.study_status import TrialStatus
    from prism_ray.study.spec import Study


def launch(study: Study, settings: StudySettings) -> int:
    """Run a study, print what became of it and where to compare; the exit code."""
    from prism_ray.cli.progress import Shown, StudyProgress
    from prism_ray.distributed.study_run import run_study
    from prism_ray.report.build import write_report

    print(f"{study.name}: {study.question}", file=sys.stderr)
    shown = Shown(
        metric=study.objective.metric,
        direction=study.objective.direction,
        report_metric=study.report_metric,
        workers=settings.resources.n_workers,
        look=lambda label: running_trial(settings.storage, study.name, label),
    )
    with StudyProgress(shown) as progress:
        outcome = run_study(study, settings, progress)
    print(f"{outcome.n_finished} of {outcome.n_trials} trials are finished ({outcome.n_found} before this launch)")
    for label, reason in outcome.failures.items():
        print(f"FAILED {label}: {reason}")
    if outcome.repeating:
        retry = f"prism-ray retry {study.name} --failed"
        print(f"{len(outcome.repeating)} of these would fail the same way and are not run again; `{retry}` does it")
    if outcome.stop is not None and outcome.is_stopped:
        print(f"STOPPED with {outcome.n_left} trials left to do: {outcome.stop.reason}")
    if outcome.n_finished:
        report = write_report(settings.tracking_uri, study.name, settings.storage / "reports" / study.name)
        print(report.text)
        print(f"report    {report.html}")
    print(f"compare   {ui_line(settings.tracking_uri)}")
    return outcome.exit_code


def workspace(given: Path | None, tracking_uri: str | None) -> Path:
    """Absolute folder of the workspace.

    Raises:
        InputError: it, or an SQLite file of the tracker, would be inside the working folder of a submitted job.
    """
    from prism_ray.distributed.jobs import in_job
    from prism_ray.errors import FaultList, InputError

    if in_job():
        faults = FaultList()
        lost = "a submitted job runs in a copy of the folder that Ray deletes"
        if given is None or not given.is_absolute():
            place = str(given) if given else "not given"
            faults.add("--storage", f"{place}: {lost}", "give an absolute path that every node sees")
        if (tracking_uri or "").startswith("sqlite:///") and not (tracking_uri or "").startswith("sqlite:////"):
            faults.add("--tracking-uri", f"{tracking_uri}: {lost}", "give sqlite:////ABSOLUTE/PATH or a server")
        faults.raise_if_any(InputError)
    return (given or Path("results")).absolute()


def running_trial(storage: Path, study: str, label: str) -> TrialStatus | None:
    """Status of the trial of a label in the last launch of a study; None where it is not known."""
    import time

    from prism_ray.distributed.launch_note import read_launch
    from prism_ray.distributed.study_status import trial_status

    note = read_launch(storage, study)
    found = next((trial for trial in note.trials if trial.label == label), None)
    return None if found is None else trial_status(storage, found, note, time.time())


def ui_line(tracking_uri: str) -> str:
    """How to open the tracking store."""
    from prism_ray.tracking import redact

    if tracking_uri.startswith("http"):
        return f"open {redact(tracking_uri)}"
    return f"mlflow ui --backend-store-uri {redact(tracking_uri)}    then open http://127.0.0.1:5000"
