"""Writing the record of a finished run; `record.py` says what is in it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import prism_ray
from prism_ray.config import RunConfig
from prism_ray.model import save
from prism_ray.training.checkpoint import CHECKPOINT_NAME
from prism_ray.training.loop import TrainResult
from prism_ray.training.record import (
    HISTORY_NAME,
    MODEL_NAME,
    PREDICTIONS_NAME,
    RECORD_SCHEMA,
    RESULT_NAME,
    TrialRecord,
    read_record,
)
from prism_ray.training.sources import NamedGenes


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
        "schema": RECORD_SCHEMA,
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


def _write_json(path: Path, content: Mapping[str, Any] | list[dict[str, float]]) -> None:
    # Python writes NaN and Infinity and reads them again: a correlation of constant predictions is NaN.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
