"""The record of a finished run: a folder whose `result.json`, written last, says that it is finished.

<trial folder>/
  result.json            settings, identity, metrics, cost, versions
  history.json           every reported metric by step
  model/                 model.safetensors + config.json
  test_predictions.parquet   gene_id, chrom, label, prediction
  checkpoint.pt          while it trains; removed when it is finished
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError

import prism_ray
from prism_ray.config import RunConfig
from prism_ray.documents import faults_of
from prism_ray.errors import CheckpointError, Fault
from prism_ray.model import save
from prism_ray.training.checkpoint import CHECKPOINT_NAME
from prism_ray.training.loop import TrainResult
from prism_ray.training.sources import NamedGenes

RESULT_NAME = "result.json"
HISTORY_NAME = "history.json"
MODEL_NAME = "model"
PREDICTIONS_NAME = "test_predictions.parquet"
_SCHEMA = 1


@dataclass(frozen=True)
class TrialRecord:
    """What `result.json` and `history.json` say.

    Attributes:
        folder: where the record is.
        trial_id, fingerprint, data_digest, results_version: the run's identity.
        config: its settings.
        metrics: of the best model: `val/...`, `test/...`, `best_step`.
        n_parameters: trained numbers in the network.
        cost: `train_s`, `n_workers`, `device`, `host`, `micro_batch` (genes a worker at a time) and
            `checkpoint_activations`.
        versions: of python, torch and prism-ray.
        finished: UTC time in ISO format.
    """

    folder: Path
    trial_id: str
    fingerprint: str
    data_digest: str
    results_version: int
    config: RunConfig
    metrics: dict[str, float]
    n_parameters: int
    cost: dict[str, Any]
    versions: dict[str, str]
    finished: str

    def history(self) -> list[dict[str, float]]:
        """Every metric reported while the run trained, as {"step": ..., name: value}."""
        history: list[dict[str, float]] = json.loads((self.folder / HISTORY_NAME).read_text())
        return history

    def final_metrics(self) -> dict[str, float]:
        """Metrics of the best model: `test/...`, and its validation metrics as `best/...`.

        `val/...` is a curve over steps; a name of their own keeps a tracker's last value the chosen model's.
        """
        chosen = {name.replace("val/", "best/"): value for name, value in self.metrics.items()}
        chosen["best/step"] = chosen.pop("best_step")
        return chosen

    def costs(self) -> dict[str, float]:
        """What the run cost, by the names in `metrics.COSTS`."""
        return {"cost/train_s": float(self.cost["train_s"]), "cost/n_parameters": float(self.n_parameters)}

    def files(self) -> dict[str, Path]:
        """Files worth keeping with the run in a tracker, by their path there."""
        model = self.folder / MODEL_NAME
        names = {f"{MODEL_NAME}/{file.name}": file for file in sorted(model.iterdir())}
        return {**names, PREDICTIONS_NAME: self.folder / PREDICTIONS_NAME, RESULT_NAME: self.folder / RESULT_NAME}


def write_record(
    folder: Path,
    result: TrainResult,
    genes: NamedGenes,
    config: RunConfig,
    *,
    trial_id: str,
    data_digest: str,
    results_version: int,
    n_workers: int,
    device: torch.device,
) -> TrialRecord:
    """Write the record of a finished run; until its last file is there, the run counts as unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    save(
        result.model,
        folder / MODEL_NAME,
        run_config=config,
        signals=genes.signal_names,
        scalars=genes.scalar_names,
        overwrite=True,  # an attempt that died between the model and the result left one
    )
    rows = result.test_rows
    predictions = pd.DataFrame(
        {
            "gene_id": genes.gene_id[rows],
            "chrom": genes.chrom[rows],
            "label": genes.label[rows],
            "prediction": result.test_prediction.astype(np.float32),
        }
    )
    temporary = folder / f".{PREDICTIONS_NAME}.{os.getpid()}"
    predictions.to_parquet(temporary, index=False)
    temporary.replace(folder / PREDICTIONS_NAME)
    _write_json(folder / HISTORY_NAME, result.history)
    content = {
        "schema": _SCHEMA,
        "trial_id": trial_id,
        "fingerprint": config.fingerprint(),
        "data_digest": data_digest,
        "results_version": results_version,
        "config": config.model_dump(mode="json"),
        "metrics": result.metrics,
        "n_parameters": result.n_parameters,
        "cost": {
            "train_s": result.train_s,
            "n_workers": n_workers,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "host": platform.node(),
            "micro_batch": result.micro_batch,
            "checkpoint_activations": result.checkpointing,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "prism_ray": prism_ray.__version__,
        },
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    _write_json(folder / RESULT_NAME, content)
    (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
    record = read_record(folder)
    assert record is not None
    return record


def read_record(folder: Path) -> TrialRecord | None:
    """Record of the run in `folder`; None where it is not finished.

    Raises:
        CheckpointError: `result.json` is damaged or of another version.
    """
    path = folder / RESULT_NAME
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise _error(path, f"cannot be read ({problem})") from None
    if not isinstance(content, dict) or content.pop("schema", None) != _SCHEMA:
        raise _error(path, "was written by another version of prism-ray")
    expected = {item.name for item in fields(TrialRecord)} - {"folder"}
    if content.keys() != expected:
        raise _error(path, f"does not hold just {', '.join(sorted(expected))}")
    try:
        config = RunConfig.model_validate_json(json.dumps(content.pop("config")))
    except ValidationError as problem:
        reasons = faults_of(problem, RunConfig, lambda place: ".".join(("config", *map(str, place))))
        raise _error(path, "; ".join(map(str, reasons))) from None
    return TrialRecord(folder=folder, config=config, **content)


def _error(path: Path, problem: str) -> CheckpointError:
    fault = Fault(str(path), problem, "move this folder away to train the run again")
    return CheckpointError(str(fault), [fault])


def _write_json(path: Path, content: Mapping[str, Any] | list[dict[str, float]]) -> None:
    # Python writes NaN and Infinity and reads them again: a correlation of constant predictions is NaN.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
