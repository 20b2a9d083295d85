"""An evaluation trial: the model of another trial on the genes, window and inputs that its settings ask for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from prism_ray.config import RunConfig
from prism_ray.distributed.loading import gene_source
from prism_ray.distributed.loading_choice import Loading
from prism_ray.distributed.projections import read_run
from prism_ray.errors import TrainingError
from prism_ray.model import load
from prism_ray.store import Store
from prism_ray.training.evaluation import EvaluationResult, evaluate_trained
from prism_ray.training.record import MODEL_NAME, TrialRecord, read_record
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneReader, MemorySource


class Evaluated(NamedTuple):
    """What an evaluation gave, of which genes, by the model of which trial."""

    result: EvaluationResult
    reader: GeneReader
    trained: TrialRecord


def evaluate_trial(
    config: RunConfig, store: Store, loading: Loading, trained: TrialRecord, placement: Placement
) -> Evaluated:
    """Evaluate the model of a finished trial, in one process of the evaluation.

    Args:
        config: of the evaluation.
        loading: how it gets its genes.
        trained: record of the trial of `config.trained()`.

    Raises:
        CheckpointError: the model's folder is damaged.
        StoreError: a file of the store is damaged.
        ConfigError, InputError: the genes do not have what the settings name.
    """
    reader = evaluated_genes(loading, store, config)
    split = store.folds.split(config.data.fold, reader.genes.chrom)
    model = load(trained.folder / MODEL_NAME).to(placement.device)
    return Evaluated(evaluate_trained(model, config, reader, split, placement), reader, trained)


def trained_record(folder: Path, failure: str | None) -> TrialRecord:
    """Record of the trial that trained a model.

    Args:
        folder: of that trial.
        failure: why that trial failed, where it did.

    Raises:
        TrainingError: it has none: its training failed, or it was never run.
    """
    record = read_record(folder)
    if record is None:
        reason = f"was not trained: {failure}" if failure else "has not been trained; run the study that trains it"
        raise TrainingError(f"its model, trial {folder.name}, {reason}")
    return record


def evaluated_genes(loading: Loading, store: Store, config: RunConfig) -> GeneReader:
    """The genes of an evaluation: of its cell type, with its window.

    In memory they are a view of the projection that the model was trained on, which is decoded already; a stream reads
    just what the shorter window needs.

    Raises:
        StoreError: a file of the store is damaged.
    """
    data = config.evaluated_data()
    if loading.name == "stream":
        return gene_source(loading, store, config.model_copy(update={"data": data}), n_workers=1)
    whole = gene_source(loading, store, read_run(config), n_workers=1)
    assert isinstance(whole, MemorySource)
    return MemorySource(whole.arrays.cut(data.window_bp))
