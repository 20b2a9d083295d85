"""The disk that a launch's trials take in their workspace. Loads neither Ray nor PyTorch, for plans.

P trained values of a model, N test genes, n background states of D channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prism_ray.config import RunConfig
from prism_ray.distributed.projections import gene_bytes, gene_chroms, model_parameters, read_run
from prism_ray.store import Store
from prism_ray.tracking.addresses import database_file
from prism_ray.training.record import example_genes

_VALUE_BYTES = 4
_CHECKPOINT_VALUES = 4
"""Values kept of each trained one: itself, that of the best model, and two moments of AdamW."""
_ROW_BYTES = 64
"""Of a predicted gene: id, chromosome, label, prediction."""
_REST_BYTES = 64 << 10
"""Of a trial's folder: record, history, attempts."""


def storage_bytes(configs: Iterable[RunConfig], store: Store, n_left: int, n_concurrent: int, n_copies: int = 1) -> int:
    """Bytes of the workspace's disk, at most: what trials leave, and the checkpoints of those at work.

    Args:
        configs: runs that are as large as any of the trials; an evaluation counts as its model's training.
        store: what they read.
        n_left: trials to be run.
        n_concurrent: of them at once.
        n_copies: of what a trial leaves, see `copies_kept`.
    """
    # Trials of a study come in few kinds: seeds and learning rates change no file's size.
    kinds = [read_run(config) for config in {(one.model, one.data, one.evaluation): one for one in configs}.values()]
    kept = max((kept_bytes(config, store) for config in kinds), default=0)
    saved = max((checkpoint_bytes(config, store) for config in kinds), default=0)
    # A checkpoint is written beside the one before it.
    return n_copies * n_left * kept + 2 * min(n_concurrent, n_left) * saved


def copies_kept(tracking_uri: str, storage: Path) -> int:
    """Copies of what a trial leaves: a tracking store inside the workspace keeps one of its own."""
    file = database_file(tracking_uri)
    return 2 if file is not None and file.is_relative_to(storage) else 1


def kept_bytes(config: RunConfig, store: Store) -> int:
    """Bytes that a finished trial leaves: model, example input, predictions, weights of states, (N, D, n) float32."""
    data = config.evaluated_data()
    n_test = len(store.folds.split(data.fold, gene_chroms(store, data.cell_type)).test)
    if config.is_evaluation:
        return n_test * _ROW_BYTES + _REST_BYTES
    n_weights = config.model.d_model * config.model.n_states if config.model.states == "learned" else 0
    tables = n_test * (_ROW_BYTES + _VALUE_BYTES * n_weights)
    example = example_genes(data.window_bp) * gene_bytes(data)
    return tables + example + _VALUE_BYTES * model_parameters(store, config) + _REST_BYTES


def checkpoint_bytes(config: RunConfig, store: Store) -> int:
    """Bytes of a run's checkpoint."""
    return 0 if config.is_evaluation else _CHECKPOINT_VALUES * _VALUE_BYTES * model_parameters(store, config)
