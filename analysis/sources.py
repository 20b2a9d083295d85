"""Where a script's trials come from, and the record it leaves beside its files."""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prism_ray.errors import Fault, InputError
from prism_ray.metrics import direction_of
from prism_ray.report.finalists import finalists_header, own_trials
from prism_ray.report.gather import refuse_mixtures
from prism_ray.report.genes import finished_runs, wants_predictions
from prism_ray.report.provenance import provenance
from prism_ray.report.tables import arm_table
from prism_ray.study.designs import PROPOSAL_ARM
from prism_ray.study.evaluations import BETWEEN, INTACT
from prism_ray.tracking import (
    StudyHeader,
    fetch_predictions,
    fetch_study,
    fetch_trials,
    redact,
    resolve_tracking_uri,
)

_NEEDED = ("study", "arm", "seed", "fold", "cell_type", "status")


@dataclass(frozen=True)
class Source:
    """Trials and what is known of their study.

    Attributes:
        trials: as `fetch_trials` returns them.
        header: of the study.
        facts: provenance, as JSON types.
        tracking_uri: store that has the runs' files.
    """

    trials: pd.DataFrame
    header: StudyHeader
    facts: dict[str, Any]
    tracking_uri: str

    @property
    def own(self) -> pd.DataFrame:
        """Of a search its own trials; of another study all."""
        return own_trials(self.trials, self.header)

    @property
    def compared(self) -> StudyHeader:
        """What has arms to compare: the study, or a search's finalists."""
        return finalists_header(self.header) or self.header

    @property
    def table(self) -> pd.DataFrame:
        """An arm a row; see `arm_table`."""
        return arm_table(self.trials, self.compared)

    @property
    def runs(self) -> pd.DataFrame:
        """Runs whose predictions are read."""
        return finished_runs(self.trials, self.compared)

    @functools.cached_property
    def predictions(self) -> dict[str, pd.DataFrame]:
        """Test predictions by run id; empty where the metric is not one of test genes."""
        if not wants_predictions(self.compared):
            return {}
        return fetch_predictions(self.tracking_uri, self.runs["run_id"])


def add_arguments(parser: argparse.ArgumentParser, *, curve: str | None = None) -> None:
    """Add the arguments that say where trials come from and where files go.

    Args:
        parser: of the script.
        curve: setting on the x axis where the study does not say; None for a script without one.
    """
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--study", help="name of the study in the tracking store, or NAME@RUN for an earlier launch")
    source.add_argument("--trials", type=Path, help="Parquet file of `fetch_trials`, in place of a store")
    parser.add_argument("--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else results/mlflow.db)")
    parser.add_argument("--metric", default="test/mse", help="metric of a --trials file (default test/mse)")
    parser.add_argument("--baseline", metavar="ARM", help="arm that the others of a --trials file are compared with")
    parser.add_argument("--second-metric", help="second objective of a search in a --trials file, cost/... or val/...")
    if curve is not None:
        parser.add_argument(
            "--curve", default=curve, help=f"setting on the x axis of a --trials file (default {curve})"
        )
    parser.add_argument(
        "--mixed", action="store_true", help="show trials of several data digests or results versions together"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")


def read_source(args: argparse.Namespace) -> Source:
    """Trials by the arguments of `add_arguments`.

    Raises:
        TrackingError: the store cannot be reached or has no such study.
        InputError: the file is missing, is no table of trials, or has no such metric or baseline; or the trials are of
            several data digests or results versions.
    """
    uri = resolve_tracking_uri(args.tracking_uri, Path("results"))
    if args.trials is not None:
        source = _from_file(args, uri)
    else:
        launch = fetch_study(uri, args.study)
        trials = fetch_trials(uri, args.study, parent_run_id=launch.run_id)
        facts = provenance(trials, launch.header, tracking_uri=uri, parent_run_id=launch.run_id)
        source = Source(trials, launch.header, facts, uri)
    if not args.mixed:
        refuse_mixtures(source.facts, source.header)
    return source


def write_sidecar(source: Source, files: list[Path], out: Path, name: str) -> Path:
    """Write `name.json`: what the files of a script rest on."""
    sidecar = out / f"{name}.json"
    content = {**source.facts, "files": [file.name for file in files]}
    sidecar.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return sidecar


def _from_file(args: argparse.Namespace, uri: str) -> Source:
    path: Path = args.trials
    try:
        trials = pd.read_parquet(path)
    except (OSError, ValueError) as problem:
        _refuse(str(path), f"cannot be read as a Parquet table ({problem})", "give a file written from fetch_trials")
    missing = [name for name in (*_NEEDED, args.metric) if name not in trials]
    if missing or direction_of(args.metric) is None or not len(trials):
        said = f"has no column {', '.join(missing)}" if missing else "has no trial"
        unknown = f"is asked for the unknown metric {args.metric!r}"
        _refuse(str(path), said if direction_of(args.metric) else unknown, "see --metric")
    header = _header_of(trials, args)
    parent = str(trials["parent_run_id"].iloc[0])
    facts = provenance(trials, header, tracking_uri=redact(str(path)), parent_run_id=parent)
    return Source(trials, header, facts, uri)


def _header_of(trials: pd.DataFrame, args: argparse.Namespace) -> StudyHeader:
    """What a table of trials says of its study; arms named MODEL__ARM are an evaluation's."""
    arms = tuple(dict.fromkeys(str(arm) for arm in trials["arm"]))
    if args.baseline is not None and args.baseline not in arms:
        _refuse(str(args.trials), f"has no arm {args.baseline!r}", f"it has {', '.join(arms)}")
    direction = direction_of(args.metric)
    second = args.second_metric
    assert direction is not None
    intact = f"{BETWEEN}{INTACT}"
    evaluates = any(arm.endswith(intact) for arm in arms)
    searches = any(arm.startswith(f"{PROPOSAL_ARM}-") for arm in arms)
    references = {arm: f"{arm.partition(BETWEEN)[0]}{intact}" for arm in arms if evaluates and not arm.endswith(intact)}
    return StudyHeader(
        name=str(trials["study"].iloc[0]),
        question="",
        claim="",
        source=str(args.trials),
        kind="evaluation" if evaluates else "search" if searches else "ablation",
        baseline=args.baseline,
        arms=arms,
        metric=args.metric,
        direction=direction,
        curve=getattr(args, "curve", None),
        seeds=tuple(dict.fromkeys(int(seed) for seed in trials["seed"])),
        folds=tuple(dict.fromkeys(trials["fold"])),
        n_trials=len(trials),
        cell_types=tuple(dict.fromkeys(trials["cell_type"])),
        study_digest="",
        data_digest=str(trials["data_digest"].iloc[0]),
        results_version=int(trials["results_version"].iloc[0]),
        command="",
        references=references,
        evaluated_on=_evaluated_on(trials) if evaluates else {},
        second_metric=second,
        second_direction=None if second is None else direction_of(second),
    )


def _evaluated_on(trials: pd.DataFrame) -> dict[str, str]:
    """Arms that were evaluated on another cell type than they were trained on, and on which."""
    column = "param/evaluation.cell_type"
    if column not in trials:
        return {}
    told = trials.drop_duplicates("arm")[["arm", column]].dropna()
    return {str(arm): str(on) for arm, on in zip(told["arm"], told[column], strict=True) if on}


def _refuse(where: str, problem: str, fix: str) -> None:
    fault = Fault(where, problem, fix)
    raise InputError(str(fault), [fault])
