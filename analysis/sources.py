"""Where a script's trials come from, and the record it leaves beside its files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from prism_ray.errors import Fault, InputError
from prism_ray.metrics import direction_of
from prism_ray.report.provenance import provenance
from prism_ray.tracking import StudyHeader, fetch_study, fetch_trials, redact, resolve_tracking_uri


class Source(NamedTuple):
    """Trials and what is known of their study.

    Attributes:
        trials: as `fetch_trials` returns them.
        header: of the study.
        facts: provenance, as JSON types.
    """

    trials: pd.DataFrame
    header: StudyHeader
    facts: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser, *, curve: str) -> None:
    """Add the arguments that say where trials come from and where files go.

    Args:
        parser: of the script.
        curve: setting on the x axis where the study does not say.
    """
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--study", help="name of the study in the tracking store")
    source.add_argument("--trials", type=Path, help="Parquet file of `fetch_trials`, in place of a store")
    parser.add_argument("--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else results/mlflow.db)")
    parser.add_argument("--metric", default="test/mse", help="metric of a --trials file (default test/mse)")
    parser.add_argument("--curve", default=curve, help=f"setting on the x axis of a --trials file (default {curve})")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")


def read_source(args: argparse.Namespace) -> Source:
    """Trials by the arguments of `add_arguments`.

    Raises:
        TrackingError: the store cannot be reached or has no such study.
        InputError: the file is missing, is no table of trials, or has no such metric.
    """
    if args.trials is not None:
        return _from_file(args.trials, args.metric, args.curve)
    uri = resolve_tracking_uri(args.tracking_uri, Path("results"))
    launch = fetch_study(uri, args.study)
    trials = fetch_trials(uri, args.study, parent_run_id=launch.run_id)
    facts = provenance(trials, launch.header, tracking_uri=uri, parent_run_id=launch.run_id)
    return Source(trials, launch.header, facts)


def write_sidecar(source: Source, files: list[Path], out: Path, name: str) -> Path:
    """Write `name.json`: what the files of a script rest on."""
    sidecar = out / f"{name}.json"
    content = {**source.facts, "files": [file.name for file in files]}
    sidecar.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return sidecar


def _from_file(path: Path, metric: str, curve: str) -> Source:
    try:
        trials = pd.read_parquet(path)
    except (OSError, ValueError) as problem:
        _refuse(str(path), f"cannot be read as a Parquet table ({problem})", "give a file written from fetch_trials")
    missing = [name for name in ("study", "arm", "seed", "fold", "cell_type", "status", metric) if name not in trials]
    direction = direction_of(metric)
    if missing or direction is None or not len(trials):
        said = f"has no column {', '.join(missing)}" if missing else "has no trial"
        _refuse(str(path), said if direction else f"is asked for the unknown metric {metric!r}", "see --metric")
    assert direction is not None
    header = StudyHeader(
        name=str(trials["study"].iloc[0]),
        question="",
        claim="",
        source=str(path),
        kind="ablation",
        baseline=None,
        arms=tuple(dict.fromkeys(trials["arm"])),
        metric=metric,
        direction=direction,
        curve=curve,
        seeds=tuple(dict.fromkeys(int(seed) for seed in trials["seed"])),
        folds=tuple(dict.fromkeys(trials["fold"])),
        n_trials=len(trials),
        cell_types=tuple(dict.fromkeys(trials["cell_type"])),
        study_digest="",
        data_digest=str(trials["data_digest"].iloc[0]),
        results_version=int(trials["results_version"].iloc[0]),
        command="",
    )
    facts = provenance(
        trials, header, tracking_uri=redact(str(path)), parent_run_id=str(trials["parent_run_id"].iloc[0])
    )
    return Source(trials, header, facts)


def _refuse(where: str, problem: str, fix: str) -> None:
    fault = Fault(where, problem, fix)
    raise InputError(str(fault), [fault])
