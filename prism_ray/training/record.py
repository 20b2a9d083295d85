"""The record of a finished run: a folder whose `result.json`, written last, says that it is finished.

<trial folder>/
  result.json            settings, identity, metrics, cost, versions
  history.json           every reported metric by step; empty for an evaluation
  model/                 model.safetensors + config.json; an evaluation has none: its model is another trial's
  test_predictions.parquet   gene_id, chrom, label, prediction
  state_weights.parquet      gene_id and, for each learned background state, its weights of that test gene: state_1, ...
  example_input.npz          gene_id, sequence, signals, scalars of up to four test genes; an evaluation has none
  checkpoint.pt          while it trains; removed when it is finished

Reading it loads no PyTorch, for plans; `recording.py` writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from prism_ray.config import RunConfig
from prism_ray.documents import faults_of
from prism_ray.errors import CheckpointError, Fault

RESULT_NAME = "result.json"
HISTORY_NAME = "history.json"
MODEL_NAME = "model"
PREDICTIONS_NAME = "test_predictions.parquet"
STATES_NAME = "state_weights.parquet"
EXAMPLE_NAME = "example_input.npz"
RECORD_SCHEMA = 1
_EXAMPLE_GENES = 4
_EXAMPLE_POSITIONS = 8000
"""Positions (genes x bp) of an example input: below it four genes, of longer windows fewer, at least one."""


@dataclass(frozen=True)
class TrialRecord:
    """What `result.json` and `history.json` say.

    Attributes:
        folder: where the record is.
        trial_id, fingerprint, data_digest, results_version: the run's identity.
        config: its settings.
        metrics: of the best model: `val/...`, `test/...`, `best_step`.
        n_parameters: trained numbers in the network.
        cost: `train_s`, `n_workers`, `n_hosts`, `device` and `host` of the first worker, `read_bytes` (compressed bytes
            of the store that its genes take), on a GPU `gpu_memory_bytes` (the first worker's peak); of a run that
            trained `micro_batch` (genes a worker at a time) and `checkpoint_activations`, of an evaluation
            `evaluate_s`. Records of earlier versions have no bytes and no `n_hosts`.
        versions: of python, torch, prism-ray and other packages, as they were installed.
        finished: UTC time in ISO format.
        trained_trial: id of the trial whose model an evaluation used; None for a run that trained its own.
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
    trained_trial: str | None = None

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

    def more_costs(self) -> dict[str, float]:
        """What is known of its cost besides `costs`, as a tracker is told of it."""
        names = ("evaluate_s", "read_bytes", "gpu_memory_bytes", "micro_batch", "checkpoint_activations")
        return {f"cost/{name}": float(self.cost[name]) for name in names if name in self.cost}

    def provenance(self) -> dict[str, str]:
        """Where it ran and by which versions, as tags of its run in a tracker."""
        place = {name: str(self.cost[name]) for name in ("device", "host", "n_workers", "n_hosts") if name in self.cost}
        versions = {f"version.{name}": text for name, text in self.versions.items()}
        return {f"prism.{name}": text for name, text in (place | versions).items()}

    def files(self) -> dict[str, Path]:
        """Files worth keeping with the run in a tracker, by their path there."""
        model = self.folder / MODEL_NAME
        own = sorted(model.iterdir()) if self.trained_trial is None else []
        names = {f"{MODEL_NAME}/{file.name}": file for file in own}
        # Only models with learned states have weights, only runs that trained an example; records of before have none.
        some = [name for name in (STATES_NAME, EXAMPLE_NAME) if (self.folder / name).exists()]
        return {**names, **{name: self.folder / name for name in (PREDICTIONS_NAME, *some, RESULT_NAME)}}


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
    if not isinstance(content, dict) or content.pop("schema", None) != RECORD_SCHEMA:
        raise _error(path, "was written by another version of prism-ray")
    expected = {item.name for item in fields(TrialRecord)} - {"folder"}
    # Records from before there were evaluations do not say that they are none.
    if content.keys() | {"trained_trial"} != expected:
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


def example_genes(window_bp: int) -> int:
    """Genes whose inputs a run keeps."""
    return max(1, min(_EXAMPLE_GENES, _EXAMPLE_POSITIONS // window_bp))
