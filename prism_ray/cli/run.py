"""`prism-ray run`: the trials of a study, then its report."""

from __future__ import annotations

import argparse

from prism_ray.cli.launching import add_launch, add_study, asked_study, launch_settings, say_study


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` to the command's parser."""
    parser = subparsers.add_parser(
        "run",
        help="run a study",
        description="Run the trials of a study that are not finished yet, then write its report. "
        "The same command again does what is missing and repeats nothing.",
    )
    add_study(parser)
    add_launch(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the study, print its table and where to compare; 1 where trials failed."""
    settings = launch_settings(args)
    from prism_ray.cli.progress import StudyProgress
    from prism_ray.distributed.study_run import run_study
    from prism_ray.report.build import write_report

    study = asked_study(args)
    say_study(study)
    with StudyProgress() as progress:
        outcome = run_study(study, settings, progress)
    print(f"{outcome.n_finished} of {outcome.n_trials} trials are finished ({outcome.n_found} before this launch)")
    if outcome.n_pruned:
        print(f"{outcome.n_pruned} more were stopped by the search, as worse than others")
    for label, reason in outcome.failures.items():
        print(f"FAILED {label}: {reason}")
    for label in outcome.left:
        print(f"left to do {label}")
    if outcome.n_finished:
        report = write_report(settings.tracking_uri, study.name, settings.storage / "reports" / study.name)
        print(report.text)
        print(f"report    {report.html}")
    print(f"compare   {_ui_line(settings.tracking_uri)}")
    return {"FINISHED": 0, "FAILED": 1}.get(outcome.status, 130)


def _ui_line(tracking_uri: str) -> str:
    from prism_ray.tracking import redact

    if tracking_uri.startswith("http"):
        return f"open {redact(tracking_uri)}"
    return f"mlflow ui --backend-store-uri {redact(tracking_uri)}    then open http://127.0.0.1:5000"
