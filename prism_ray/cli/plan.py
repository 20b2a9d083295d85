"""`prism-ray plan`: what a launch of a study would do, before it. No cluster, no side effect."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.launching import add_launch, add_study, asked_study, packed_resources, workspace_folder
from prism_ray.cli.study import print_heading, print_table
from prism_ray.sizes import size_text

if TYPE_CHECKING:
    from prism_ray.distributed.plan_facts import Plan
    from prism_ray.store import StorePlace
    from prism_ray.study.spec import Study

_SHOWN_ROWS = 40
_SOURCES = {
    "probe": "measured",
    "records": "finished trials",
    "between": "between measured ones",
    "": "not measured",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `plan` to the command's parser."""
    parser = subparsers.add_parser(
        "plan",
        help="trials, hours, bytes, memory and packing of a study, before it runs",
        description="Say what `run` with the same flags would do: which trials are left, what they read, how long they "
        "take by measured steps. Nothing is started and nothing is written.",
    )
    add_study(parser)
    add_launch(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan; returns the exit code."""
    study, storage = asked_study(args), workspace_folder(args)
    plan = planned(args, study, storage)
    if args.json:
        print(json.dumps(plan.document(), indent=2))
    else:
        print_plan(plan, storage, args.store.absolute())
    return 0


def planned(args: argparse.Namespace, study: Study, storage: Path) -> Plan:
    """The plan of a study, by the flags of a launch."""
    from prism_ray.distributed.plan import plan_study
    from prism_ray.distributed.plan_facts import PlanSettings
    from prism_ray.tracking import resolve_tracking_uri

    resources, packing = packed_resources(args, study, storage)
    tracking_uri = resolve_tracking_uri(args.tracking_uri, storage)
    store = args.store.absolute()
    settings = PlanSettings(store, storage, resources, args.max_concurrent, packing, tracking_uri, args.loading)
    return plan_study(study, settings)


def print_plan(plan: Plan, storage: Path, store: StorePlace) -> None:
    """Print a plan for people."""
    print_heading(plan.question)
    for name, text in _facts(plan, storage, store).items():
        print(f"{name:10} {text}")
    for text in plan.warnings:
        print(f"{'warning':10} {text}")
    print()
    rows = [
        (
            row.name,
            f"{row.n_left}/{row.n_trials}" if row.n_trials else "-",
            f"{row.window_bp:,}",
            "+".join((*(("dna",) if row.sequence else ()), *row.signals)),
            str(row.n_states),
            size_text(row.read_bytes),
            "-" if row.step_s is None else f"{row.step_s:.3g}",
            "-" if row.trial_s is None else duration(row.trial_s),
            _SOURCES[row.source],
        )
        for row in plan.rows[:_SHOWN_ROWS]
    ]
    headings = ("arm", "left", "window", "inputs", "n", "reads", "s/step", "a trial", "step time")
    print_table(headings, rows, numbers=(1, 2, 4, 5, 6, 7))
    if len(plan.rows) > _SHOWN_ROWS:
        print(f"... {len(plan.rows) - _SHOWN_ROWS} more arms; --json has all")
    if plan.unmeasured:
        print()
        print(f"not measured: `prism-ray check` with the same flags measures it, and keeps it in {storage}/probes.json")


def _facts(plan: Plan, storage: Path, store: StorePlace) -> dict[str, str]:
    trials = f"{plan.n_trials:,}: {plan.n_left:,} left, {plan.n_finished:,} finished"
    if plan.n_linked:
        trials += f", {plan.n_linked:,} of them by other studies (linked, not run again)"
    facts = {"study": f"{plan.study} ({plan.kind})"}
    if plan.overrides:
        facts["replaced"] = plan.overrides
    facts["trials"] = trials
    if plan.n_evaluations:
        facts["evaluate"] = f"{plan.n_evaluations:,} of those left evaluate a trained model and train none"
    if plan.n_models_first:
        facts["first"] = f"{plan.n_models_first:,} models that these evaluations need are trained before"
    facts["time"] = _time(plan)
    facts["at once"] = f"{plan.n_slots} {'trial' if plan.n_slots == 1 else 'trials'}, {plan.slots_by}"
    if plan.trials_a_gpu:
        trials = "trial" if plan.trials_a_gpu == 1 else "trials"
        facts["packing"] = f"{plan.trials_a_gpu} {trials} a GPU" + (f": {plan.packing}" if plan.packing else "")
    if plan.stream_bytes is None:
        facts["data"] = f"{size_text(plan.read_bytes)} of {store} in all, each different projection read once a node"
    else:
        most = "at most " if plan.kind == "search" else ""
        facts["data"] = f"{most}{size_text(plan.stream_bytes)} of {store} in all, read by each trial for itself"
    peak = "not measured" if plan.peak_bytes is None else f"{size_text(plan.peak_bytes)} measured"
    projections = f"{size_text(plan.largest_bytes)} the largest projection, {size_text(plan.all_bytes)} all"
    facts["memory"] = f"{projections}; a trial {peak}"
    facts["disk"] = f"{size_text(plan.storage_bytes)} at most, of models, predictions and checkpoints in {storage}"
    return facts


def _time(plan: Plan) -> str:
    if plan.hours is None or plan.wall_s is None:
        return "not measured"
    if not plan.n_left:
        return "nothing is left to do"
    bound = "" if plan.hours == plan.hours_least else "at most "
    least = "" if plan.hours == plan.hours_least or plan.hours_least is None else f", at least {plan.hours_least:.3g}"
    return f"{bound}{plan.hours:.3g} {plan.unit}{least}; {bound}{duration(plan.wall_s)} of wall time ({plan.device})"


def duration(seconds: float) -> str:
    """Time as people say it."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
