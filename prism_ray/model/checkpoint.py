"""A trained model as a folder: `model.safetensors` with the weights, `config.json` with what they do not say.

The folder is a contract. `schema_version` is raised by a change that an older reader would misread.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from prism_ray import __version__
from prism_ray.config import ModelConfig, RunConfig
from prism_ray.documents import Model, faults_of, lists_to_tuples
from prism_ray.errors import CheckpointError, Fault, FaultList, InputError
from prism_ray.model.interface import InputShape, TrainedOn
from prism_ray.model.prism import Prism

SCHEMA_VERSION = 1
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"

_RUNS_MODEL = "model"
_URI = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:/")
# Named, not imported: a room above this one knows how, and models are used without it.
_FETCHED_BY = {"runs": "prism_ray.tracking.model_files", "models": "prism_ray.tracking.model_files"}


def save(
    model: Prism,
    folder: str | Path,
    *,
    run_config: RunConfig | None = None,
    signals: Sequence[str] | None = None,
    scalars: Sequence[str] | None = None,
    window_bp: int | None = None,
    cell_type: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model to a folder, under a temporary name first.

    What is not given is taken from `run_config`, then from `model.trained_on`, where the model was loaded.

    Args:
        model: on any device.
        folder: where to write; its parent is created.
        run_config: settings of the run that trained the model.
        signals: names of the signals in the order of the input channels.
        scalars: names of the scalar features in order.
        window_bp: length of the training window in bp.
        cell_type: name of the cell type.
        overwrite: whether an existing model folder may be replaced.

    Raises:
        CheckpointError: the folder exists and may not be replaced, or holds something else than a model.
        InputError: names that are missing or do not fit the model's inputs.
    """
    known = model.trained_on or TrainedOn()
    run = run_config or known.run_config
    data = run.data if run else None
    listed = data.scalars if data and data.scalars != "all" else known.scalars
    trained_on = TrainedOn(
        signals=tuple(signals) if signals is not None else (data.signals if data else known.signals),
        scalars=tuple(scalars) if scalars is not None else tuple(listed),
        window_bp=window_bp or (data.window_bp if data else known.window_bp),
        cell_type=cell_type or (data.cell_type if data else known.cell_type),
        run_config=run,
    )
    faults = FaultList()
    _check_names(trained_on, model.config, model.inputs, "save", faults)
    faults.raise_if_any(InputError)
    _write(Path(folder), model, trained_on, overwrite=overwrite)


def _write(folder: Path, model: Prism, trained_on: TrainedOn, *, overwrite: bool) -> None:
    faults = FaultList()
    if folder.exists() and not overwrite:
        faults.add(str(folder), "exists", "give another folder, or remove it first")
    elif folder.exists() and {file.name for file in folder.iterdir()} - {WEIGHTS_FILE, CONFIG_FILE}:
        faults.add(str(folder), "holds other files than a model's", "give another folder")
    faults.raise_if_any(CheckpointError)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    replaced = beside.with_name(beside.name + ".old")
    beside.mkdir()
    try:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, beside / WEIGHTS_FILE)
        text = json.dumps(_document(model, trained_on), indent=2)
        (beside / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        if folder.exists():
            os.replace(folder, replaced)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _document(model: Prism, trained_on: TrainedOn) -> dict[str, Any]:
    run = trained_on.run_config
    return {
        "schema_version": SCHEMA_VERSION,
        "written_by": f"prism-ray {__version__}",
        "model": model.config.model_dump(mode="json"),
        "inputs": asdict(model.inputs),
        "signals": list(trained_on.signals),
        "scalars": list(trained_on.scalars),
        "window_bp": trained_on.window_bp,
        "cell_type": trained_on.cell_type,
        "run_config": run.model_dump(mode="json") if run else None,
    }


def load(path: str | Path, *, tracking_uri: str | None = None) -> Prism:
    """Model of a folder or of a tracking store, on the CPU, in evaluation mode, with `trained_on` set.

    Args:
        path: a model's folder, the folder of the run that trained it, `runs:/RUN_ID/model`, `models:/NAME@ALIAS` or
            `models:/NAME/VERSION`.
        tracking_uri: address of the tracking store that a URI is of; MLFLOW_TRACKING_URI where not given.

    Raises:
        CheckpointError: no such folder, a file that is missing or cannot be read, another schema version, or weights
            that do not fit the settings; all that can be known is reported together.
        TrackingError: the tracking store cannot be reached, or does not have the model.
    """
    if isinstance(path, str) and _URI.match(path):
        with fetched_model(path, tracking_uri) as fetched:
            return _load_folder(fetched)
    return _load_folder(model_folder(Path(path)))


def _load_folder(folder: Path) -> Prism:
    faults = FaultList()
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            faults.add(str(folder / name), "no such file", "the folder does not hold a whole model")
    faults.raise_if_any(CheckpointError)
    config, inputs, trained_on = _read_config(folder / CONFIG_FILE)
    weights = _read_weights(folder / WEIGHTS_FILE)
    model = Prism(config, inputs, seed=0)
    faults.extend(weight_faults(model, weights, str(folder / WEIGHTS_FILE)))
    faults.raise_if_any(CheckpointError)
    model.load_state_dict(weights)
    model.trained_on = trained_on
    return model.eval()


def model_folder(path: Path) -> Path:
    """Folder of the model at `path`: itself, or `model` inside it where it is the folder of a run.

    Raises:
        CheckpointError: there is no such folder.
    """
    faults = FaultList()
    if not path.is_dir():
        faults.add(str(path), "no such folder", f"give a folder with {WEIGHTS_FILE} and {CONFIG_FILE}")
    faults.raise_if_any(CheckpointError)
    inside = path / _RUNS_MODEL
    return inside if inside.is_dir() and not (path / CONFIG_FILE).exists() else path


def fetched_model(uri: str, tracking_uri: str | None) -> AbstractContextManager[Path]:
    """Folder with the files of a model that a URI names, for the time of a block.

    Raises:
        CheckpointError: the URI is of a kind that nothing serves.
    """
    scheme = uri.partition(":")[0]
    if scheme not in _FETCHED_BY:
        faults = FaultList()
        fix = "give a folder, runs:/RUN_ID/model, models:/NAME@ALIAS or models:/NAME/VERSION"
        faults.add(uri, f"{scheme}:/ is not a place that models are loaded from", fix)
        faults.raise_if_any(CheckpointError)
    fetch: Callable[[str, str | None], AbstractContextManager[Path]]
    fetch = import_module(_FETCHED_BY[scheme]).fetched_model
    return fetch(uri, tracking_uri)


def weight_faults(model: Prism, weights: dict[str, Tensor], where: str) -> list[Fault]:
    """What keeps weights from fitting a model: names that are missing or unknown, and shapes that differ."""
    faults = FaultList()
    expected = model.state_dict()
    for name in sorted(expected.keys() - weights.keys()):
        faults.add(f"{where}: {name}", "is missing", "the settings describe another model")
    for name in sorted(weights.keys() - expected.keys()):
        faults.add(f"{where}: {name}", "is not a weight of this model", "the settings describe another model")
    for name in sorted(expected.keys() & weights.keys()):
        have, want = tuple(weights[name].shape), tuple(expected[name].shape)
        if have != want:
            faults.add(f"{where}: {name}", f"has shape {have}", f"the settings expect {want}")
    return list(faults.faults)


def _read_weights(path: Path) -> dict[str, Tensor]:
    faults = FaultList()
    weights: dict[str, Tensor] = {}
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as problem:
        faults.add(str(path), f"cannot be read as safetensors ({problem})", "copy it again")
    faults.raise_if_any(CheckpointError)
    return weights


def _read_config(path: Path) -> tuple[ModelConfig, InputShape, TrainedOn]:
    faults = FaultList()
    document: Any = None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        faults.add(str(path), f"cannot be read as JSON ({problem})", "copy it again")
    faults.raise_if_any(CheckpointError)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        problem_text = f"{version!r} is not a version that prism-ray {__version__} reads"
        faults.add(f"{path}: schema_version", problem_text, f"use a model of version {SCHEMA_VERSION}")
    faults.raise_if_any(CheckpointError)
    config = _part(document, "model", ModelConfig, path, faults)
    run = _part(document, "run_config", RunConfig, path, faults) if document.get("run_config") is not None else None
    inputs = _inputs(document.get("inputs"), path, faults)
    names = {name: document.get(name) for name in ("signals", "scalars")}
    for name, value in names.items():
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            faults.add(f"{path}: {name}", f"{value!r} is not a list of names")
    for name, kind in (("window_bp", int), ("cell_type", str)):
        if not isinstance(document.get(name), (kind, type(None))):
            faults.add(f"{path}: {name}", f"{document[name]!r} is not {kind.__name__} or null")
    faults.raise_if_any(CheckpointError)
    assert config is not None
    assert inputs is not None
    trained_on = TrainedOn(
        tuple(document["signals"]),
        tuple(document["scalars"]),
        document.get("window_bp"),
        document.get("cell_type"),
        run,
    )
    _check_names(trained_on, config, inputs, str(path), faults)
    faults.raise_if_any(CheckpointError)
    return config, inputs, trained_on


def _part(document: dict[str, Any], name: str, kind: type[Model], path: Path, faults: FaultList) -> Model | None:
    try:
        return kind.model_validate(lists_to_tuples(document.get(name)))
    except ValidationError as problem:
        faults.extend(faults_of(problem, kind, lambda place: f"{path}: {'.'.join([name, *map(str, place)])}"))
        return None


def _inputs(value: object, path: Path, faults: FaultList) -> InputShape | None:
    kinds = {"n_signals": int, "n_scalars": int, "sequence": bool}
    if not isinstance(value, dict) or {name: type(item) for name, item in value.items()} != kinds:
        expected = ", ".join(f"{field.name}: {field.type}" for field in fields(InputShape))
        faults.add(f"{path}: inputs", f"{value!r} does not describe inputs", f"expected {{{expected}}}")
        return None
    try:
        return InputShape(**value)
    except InputError as problem:
        faults.extend(problem.faults)
        return None


def _check_names(trained_on: TrainedOn, config: ModelConfig, inputs: InputShape, where: str, faults: FaultList) -> None:
    """Add a fault for names that do not fit the inputs, and for run settings of another model."""
    for name, wanted in (("signals", inputs.n_signals), ("scalars", inputs.n_scalars)):
        given: tuple[str, ...] = getattr(trained_on, name)
        if len(given) != wanted or len(set(given)) != len(given):
            problem = f"{list(given)} does not name the model's inputs"
            faults.add(f"{where}: {name}", problem, f"give {wanted} different names, in the order of the channels")
    run = trained_on.run_config
    if run is not None and run.model != config:
        differing = [field for field in ModelConfig.model_fields if getattr(run.model, field) != getattr(config, field)]
        faults.add(
            f"{where}: run_config.model", f"differs from the model in {differing}", "give the run's own settings"
        )
