"""What `run`, `resume` and `retry` share: a launch with its progress, its summary and its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.launching import say_study

if TYPE_CHECKING:
    from prism_ray.distributed.launch import StudyOutcome
    from prism_ray.distributed.launch_settings import StudySettings
    from prism_ray.distributed.time_left import TimeLeft
    from prism_ray.study.spec import Study


def launch(study: Study, settings: StudySettings) -> int:
    """Run a study, print what became of it and where to compare; the exit code."""
    say_study(study)  # before what takes seconds to load
    from prism_ray.cli.progress import Shown, StudyProgress
    from prism_ray.distributed.study_run import run_study

    shown = Shown(
        metric=study.objective.metric,
        direction=study.objective.direction,
        report_metric=study.report_metric,
        left=lambda: time_left(settings.storage, study.name),
    )
    with StudyProgress(shown) as progress:
        outcome = run_study(study, settings, progress)
    print("\n".join(outcome_lines(outcome)))
    for label, reason in outcome.failures.items():
        print(f"FAILED {label}: {reason}")
    if outcome.repeating:
        retry = f"prism-ray retry {study.name} --failed"
        print(f"{len(outcome.repeating)} of these would fail the same way and are not run again; `{retry}` does it")
    if outcome.stop is not None and outcome.is_stopped:
        print(f"STOPPED with {outcome.n_left} trials left to do: {outcome.stop.reason}")
    if outcome.untold:
        sync = f"prism-ray sync --storage {settings.storage}"
        print(f"UNTOLD    {outcome.untold}")
        print(f"          what it lacks waits in {settings.storage}: `{sync}` delivers it,")
        print(f"          and `prism-ray report {study.name} --storage {settings.storage}` writes the report then")
    elif outcome.n_finished:
        from prism_ray.report.build import write_report

        report = write_report(settings.tracking_uri, study.name, settings.storage / "reports" / study.name)
        print(report.text)
        print(f"report    {report.html}")
    print(f"compare   {ui_line(study.name, settings.tracking_uri)}")
    return outcome.exit_code


def outcome_lines(outcome: StudyOutcome) -> list[str]:
    """How many trials are finished, and how many their search has stopped."""
    finished, before = f"{outcome.n_finished} of {outcome.n_trials} trials are finished", "before this launch"
    if not outcome.n_pruned:
        return [f"{finished} ({outcome.n_found} {before})"]
    pruned = f"{outcome.n_pruned} more were stopped by the search, as worse than others"
    return [finished, f"{pruned} ({outcome.n_found} of both {before})"]


def time_left(storage: Path, study: str) -> TimeLeft | None:
    """How long the last launch of a study still takes, as `status` says it; None where that is not known."""
    from prism_ray.distributed.study_status import study_status
    from prism_ray.errors import InputError

    try:
        return study_status(storage, study).left
    except InputError:
        return None  # a share that is away for a moment ends no launch, which says so itself where it needs it


def ui_line(study: str, tracking_uri: str) -> str:
    """How to open the tracking store at a study."""
    from prism_ray.tracking import redact

    if tracking_uri.startswith("http"):
        return f"open {redact(tracking_uri)}"
    return f"prism-ray ui {study} --tracking-uri {redact(tracking_uri)}"
