"""Writing the record of a finished run; `record.py` says what is in it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import prism_ray
from prism_ray.config import RunConfig
from prism_ray.model import save
from prism_ray.store import GeneArrays
from prism_ray.training.checkpoint import remove_state
from prism_ray.training.evaluation import EvaluationResult
from prism_ray.training.loop import TrainResult
from prism_ray.training.record import (
    EXAMPLE_NAME,
    HISTORY_NAME,
    MODEL_NAME,
    PREDICTIONS_NAME,
    RECORD_SCHEMA,
    RESULT_NAME,
    STATES_NAME,
    TrialRecord,
    example_genes,
    read_record,
)
from prism_ray.training.sources import GeneReader, NamedGenes, as_source


@dataclass(frozen=True)
class Identity:
    """Which run a record is of.

    Attributes:
        config: its settings.
        trial_id, data_digest, results_version: as in the record.
    """

    config: RunConfig
    trial_id: str
    data_digest: str
    results_version: int


def write_record(
    folder: Path,
    result: TrainResult,
    source: GeneReader | GeneArrays,
    run: Identity,
    *,
    n_workers: int,
    device: torch.device,
    read_bytes: int,
) -> TrialRecord:
    """Write the record of a finished run; until its last file is there, the run counts as unfinished.

    Args:
        source: of the genes that it was trained on.
        read_bytes: compressed bytes of the store that its genes take.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reader = as_source(source)
    genes = reader.genes
    save(
        result.model,
        folder / MODEL_NAME,
        run_config=run.config,
        signals=genes.signal_names,
        scalars=genes.scalar_names,
        overwrite=True,  # an attempt that died between the model and the result left one
    )
    cost = {
        "train_s": result.train_s,
        **_place(n_workers, result.n_hosts, device),
        "read_bytes": read_bytes,
        "micro_batch": result.micro_batch,
        "checkpoint_activations": result.checkpointing,
    }
    _write_predictions(folder, result.test_rows, result.test_prediction, genes)
    _write_states(folder, result.test_rows, result.test_states, genes)
    _write_example(folder, reader, result.test_rows)
    _write_json(folder / HISTORY_NAME, result.history)
    record = _write_result(folder, run, result.metrics, result.n_parameters, cost)
    remove_state(folder)
    return record


def write_evaluation(
    folder: Path,
    result: EvaluationResult,
    genes: NamedGenes,
    run: Identity,
    trained: TrialRecord,
    *,
    n_workers: int,
    device: torch.device,
    read_bytes: int,
) -> TrialRecord:
    """Write the record of an evaluation, which keeps no copy of its model.

    Args:
        trained: record of the trial that trained it.
        read_bytes: compressed bytes of the store that its genes take.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cost = {"train_s": 0.0, "evaluate_s": result.evaluate_s, **_place(n_workers, result.n_hosts, device)}
    cost["read_bytes"] = read_bytes
    metrics = {**result.metrics, "best_step": trained.metrics["best_step"]}
    _write_predictions(folder, result.test_rows, result.test_prediction, genes)
    _write_states(folder, result.test_rows, result.test_states, genes)
    _write_json(folder / HISTORY_NAME, [])
    return _write_result(folder, run, metrics, trained.n_parameters, cost, trained.trial_id)


def _place(n_workers: int, n_hosts: int, device: torch.device) -> dict[str, Any]:
    place = {"n_workers": n_workers, "n_hosts": n_hosts, "device": "cpu", "host": platform.node()}
    if device.type == "cuda":
        place["device"] = torch.cuda.get_device_name(device)
        place["gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return place


def _versions() -> dict[str, str]:
    """Versions of what decides numbers and of what ran them."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "prism_ray": prism_ray.__version__}
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
    return found | {name: version(name) for name in ("numpy", "numba", "ray", "mlflow")}


def _write_predictions(
    folder: Path, rows: NDArray[np.int64], prediction: NDArray[np.float32], genes: NamedGenes
) -> None:
    predictions = pd.DataFrame(
        {
            "gene_id": genes.gene_id[rows],
            "chrom": genes.chrom[rows],
            "label": genes.label[rows],
            "prediction": prediction.astype(np.float32),
        }
    )
    _write_table(folder / PREDICTIONS_NAME, predictions)


def _write_states(folder: Path, rows: NDArray[np.int64], states: NDArray[np.float32] | None, genes: NamedGenes) -> None:
    """Write the weights a_i, (N, D, n), a column a state and in it a list of D float32 a gene."""
    if states is None:
        return
    columns = {f"state_{number + 1}": list(states[:, :, number]) for number in range(states.shape[2])}
    _write_table(folder / STATES_NAME, pd.DataFrame({"gene_id": genes.gene_id[rows], **columns}))


def _write_example(folder: Path, reader: GeneReader, rows: NDArray[np.int64]) -> None:
    """Write the inputs of the first test genes, as `predict_inputs` takes them."""
    n_genes = example_genes(reader.genes.window_bp)
    with closing(reader.chunks(rows[:n_genes], n_genes)) as chunks:
        example = next(chunks)
    path = folder / EXAMPLE_NAME
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        arrays: dict[str, Any] = {"gene_id": example.gene_id, **example.inputs()}
        np.savez_compressed(file, **arrays)
    temporary.replace(path)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    table.to_parquet(temporary, index=False)
    temporary.replace(path)


def _write_result(
    folder: Path,
    run: Identity,
    metrics: Mapping[str, float],
    n_parameters: int,
    cost: Mapping[str, Any],
    trained_trial: str | None = None,
) -> TrialRecord:
    """Write `result.json`, which makes the run a finished one, and read the record."""
    content = {
        "schema": RECORD_SCHEMA,
        "trial_id": run.trial_id,
        "fingerprint": run.config.fingerprint(),
        "data_digest": run.data_digest,
        "results_version": run.results_version,
        "config": run.config.model_dump(mode="json"),
        "metrics": dict(metrics),
        "n_parameters": n_parameters,
        "cost": dict(cost),
        "versions": _versions(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "trained_trial": trained_trial,
    }
    _write_json(folder / RESULT_NAME, content)
    record = read_record(folder)
    assert record is not None
    return record


def _write_json(path: Path, content: Mapping[str, Any] | list[dict[str, float]]) -> None:
    # Python writes NaN and Infinity and reads them again: a correlation of constant predictions is NaN.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
