"""The best model of a study, into the registry: chosen on validation genes, checked against its run, packed, named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import prism_ray
import prism_ray.store
from prism_ray.distributed.launch_note import read_launch, was_launched
from prism_ray.errors import Fault, FaultList, InputError
from prism_ray.model import Prism, load
from prism_ray.store import Store, StorePlace
from prism_ray.tracking import StudyRun, fetch_example, fetch_predictions, fetch_study, fetch_trials
from prism_ray.tracking.model_files import fetched_model
from prism_ray.tracking.registry import (
    CANDIDATE,
    CHAMPION,
    Packing,
    Registration,
    name_version,
    register_model,
    requirements,
)
from prism_ray.training.inference import Values, predict_inputs

N_EXAMPLE_GENES = 4
_TOLERANCE = 1e-3
"""Largest difference from what the run recorded, which another kernel or device may have computed."""
_PLACE = ("cell_type", "fold")

_CODE = Path(__file__).with_name("served_model.py")


@dataclass(frozen=True)
class Wanted:
    """Which model is to be promoted.

    Attributes:
        study: its name, or `NAME@RUN` for an earlier launch.
        cell_type, fold: of its trials; None where the study has one.
        model_name: registered model; None for `prism-STUDY`.
        champion: whether it becomes the champion as well as the candidate.
    """

    study: str
    cell_type: str | None = None
    fold: str | None = None
    model_name: str | None = None
    champion: bool = False


@dataclass(frozen=True)
class Promotion:
    """What was promoted.

    Attributes:
        registration: its place in the registry.
        run_id, arm, seed: of the trial that trained it.
        metric, value: what it was chosen by, on validation genes.
        n_trials: finished trials that it was chosen from.
    """

    registration: Registration
    run_id: str
    arm: str
    seed: int
    metric: str
    value: float
    n_trials: int


def promote(wanted: Wanted, tracking_uri: str, *, storage: Path, store: StorePlace | None = None) -> Promotion:
    """Register the model of the trial that is best on its validation genes, as `candidate`, or `champion` too.

    Test genes have no say. The model must give the test predictions that its run recorded, on a few test genes whose
    inputs the run keeps; these become its example input. Promoting the same model again moves aliases alone.

    Args:
        wanted: which model.
        tracking_uri: address of the MLflow store.
        storage: workspace of the study; asked for the feature store where the run, of an earlier version, keeps no
            inputs.
        store: feature store to read the genes from in place of what the run keeps.

    Raises:
        TrackingError: the tracking store is away, or has no such study.
        InputError: no finished trial has a model, several cell types or folds do not compare, or the data are others.
        StoreError: the feature store is needed and cannot be read.
    """
    launch = fetch_study(tracking_uri, wanted.study)
    study = launch.header.name
    trials = _with_a_model(fetch_trials(tracking_uri, wanted.study, parent_run_id=launch.run_id), launch)
    trials = _comparable(trials, wanted)
    metric = launch.header.objective
    chosen = trials.sort_values(metric, ascending=launch.header.objective_is_less, kind="stable").iloc[0]
    run_id = str(chosen["run_id"])
    predicted = fetch_predictions(tracking_uri, [run_id]).get(run_id)
    if predicted is None:
        _refuse(f"run {run_id}", "keeps no test predictions", "train the trial again: its model cannot be checked")
    assert predicted is not None
    with fetched_model(f"runs:/{run_id}/model", tracking_uri) as files:
        model = load(files)
        example = fetch_example(tracking_uri, run_id) if store is None else None
        if example is None:
            opened = _store(store, storage, run_id, launch)
            example = _example(model, opened, predicted["gene_id"].head(N_EXAMPLE_GENES).to_numpy())
        genes = example.pop("gene_id")
        outputs = predict_inputs(model, example)
        _check(outputs["prediction"], predicted.set_index("gene_id").loc[genes, "prediction"].to_numpy(), run_id)
        registration = register_model(
            tracking_uri,
            wanted.model_name or f"prism-{study}",
            run_id,
            Packing(files, _CODE, example, outputs, requirements("prism-ray", "torch")),
            tags=_tags(chosen, launch),
            description=f"{launch.header.question} The best of study {study} on validation genes, {metric}.",
        )
    aliases = (CANDIDATE, CHAMPION) if wanted.champion else (CANDIDATE,)
    return Promotion(
        name_version(tracking_uri, registration, aliases),
        run_id,
        str(chosen["arm"]),
        int(chosen["seed"]),
        metric,
        float(chosen[metric]),
        len(trials),
    )


def _with_a_model(trials: pd.DataFrame, launch: StudyRun) -> pd.DataFrame:
    """Finished trials that trained a model and know its value on validation genes."""
    metric = launch.header.objective
    if metric in trials:
        trials = trials[(trials["status"] == "FINISHED") & trials["trained_trial"].isna() & trials[metric].notna()]
        if len(trials):
            return trials
    _refuse(f"study {launch.header.name}", f"has no finished trial with a model and a value of {metric}", "run it")
    raise AssertionError


def _comparable(trials: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """The trials of one cell type and one fold: errors on other genes or labels do not compare.

    Raises:
        InputError: there are several and none is asked for, or none of what is asked for.
    """
    faults = FaultList()
    for place in _PLACE:
        there = sorted(trials[place].unique())
        asked = getattr(wanted, place)
        flag = f"--{place.replace('_', '-')}"
        if asked is None and len(there) > 1:
            faults.add(flag, f"the study has {', '.join(there)}, whose validation errors do not compare", "choose one")
        elif asked is not None and asked not in there:
            faults.add(flag, f"no trial with a model is of {asked}", f"there are {', '.join(there)}")
        elif asked is not None:
            trials = trials[trials[place] == asked]
    if not len(trials) and not faults.faults:
        faults.add("--cell-type, --fold", f"no trial is of {wanted.cell_type} and {wanted.fold}", "choose others")
    faults.raise_if_any(InputError)
    return trials


def _store(path: StorePlace | None, storage: Path, run_id: str, launch: StudyRun) -> Store:
    """The store that is given, or that of the study's last launch; of the data that the study was trained on."""
    study, trained_on = launch.header.name, launch.header.data_digest
    if path is None and not was_launched(storage, study):
        problem = f"keeps no example input, and {storage} does not know the study's feature store"
        _refuse(f"run {run_id}", problem, "give the store with --store, or the study's workspace with --storage")
    store = prism_ray.store.open(path or read_launch(storage, study).store)
    if store.digest != trained_on:
        problem = f"has data {store.digest[:12]}, and the study was trained on {trained_on[:12]}"
        _refuse(str(store.path), problem, "give the study's own store with --store")
    return store


def _example(model: Prism, store: Store, gene_ids: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
    """Inputs of genes of a store, with their names, as a run keeps them."""
    trained = model.trained_on
    assert trained is not None
    assert trained.window_bp is not None
    assert trained.cell_type is not None
    genes = store.load(
        trained.window_bp,
        trained.signals,
        trained.cell_type,
        gene_ids.tolist(),
        sequence=model.inputs.sequence,
        scalars=trained.scalars,
    )
    return {"gene_id": gene_ids, **genes.inputs()}


def _check(given: Values, recorded: Values, run_id: str) -> None:
    """Refuse a model that does not give what its run recorded: it is not the one that was tested."""
    scale = max(1.0, float(np.abs(recorded).max()))
    largest = float(np.abs(given - recorded).max())
    if not largest <= _TOLERANCE * scale:
        problem = f"its model's predictions differ by up to {largest:.3g} from those that it recorded"
        _refuse(f"run {run_id}", problem, "its files were changed, or the store is not the one it was trained on")


def _tags(chosen: pd.Series, launch: StudyRun) -> dict[str, str]:
    names = ("study", "arm", "seed", "fold", "cell_type", "trial_id", "fingerprint", "data_digest", "results_version")
    tags = {f"prism.{name}": str(chosen[name]) for name in (*names, "git_commit") if pd.notna(chosen[name])}
    metric = launch.header.objective
    return {
        **tags,
        "prism.parent_run_id": launch.run_id,
        "prism.chosen_by": metric,
        "prism.chosen_value": repr(float(chosen[metric])),
        "prism.version": prism_ray.__version__,
    }


def _refuse(where: str, problem: str, fix: str) -> None:
    fault = Fault(where, problem, fix)
    raise InputError(str(fault), [fault])
