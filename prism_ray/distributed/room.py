"""The room that a launch needs: of the workspace's disk, and of each node's memory.

P trained values of a model, N test genes, n background states of D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from prism_ray.config import RunConfig
from prism_ray.distributed.loading_choice import Loading, LoadingRequest
from prism_ray.distributed.projections import gene_bytes, gene_chroms, model_parameters, projection_bytes
from prism_ray.errors import Fault
from prism_ray.store import Store
from prism_ray.training.record import example_genes

_VALUE_BYTES = 4
_CHECKPOINT_VALUES = 4
"""Values kept of each trained one: itself, that of the best model, and two moments of AdamW."""
_ROW_BYTES = 64
"""Of a predicted gene: id, chromosome, label, prediction."""
_REST_BYTES = 64 << 10
"""Of a trial's folder: record, history, attempts."""


@dataclass(frozen=True)
class Room:
    """What a launch needs, in bytes.

    Attributes:
        storage_bytes: of the workspace's disk, for what its trials leave and the checkpoints of those at work.
        cache_bytes: of each node's object store, for the projections that it keeps decoded; 0 where they are streamed.
        decode_bytes: of each node's memory beside that, while it decodes the largest of them.
    """

    storage_bytes: int = 0
    cache_bytes: int = 0
    decode_bytes: int = 0

    def __str__(self) -> str:
        genes = f", {gib(self.cache_bytes)} of object store, {gib(self.decode_bytes)} while decoding"
        return f"{gib(self.storage_bytes)} of disk" + (genes if self.cache_bytes else "")


def room_needed(request: LoadingRequest, loading: Loading, n_left: int, n_concurrent: int, n_copies: int = 1) -> Room:
    """Room for the trials of a launch.

    Args:
        request: what they read, and runs that are as large as any of them.
        loading: how they get it.
        n_left: trials to be run.
        n_concurrent: of them at once.
        n_copies: of what a trial leaves: 2 where the tracker keeps its artifacts in the workspace, too.
    """
    kept = max(kept_bytes(config, request.store) for config in request.configs)
    saved = max(checkpoint_bytes(config, request.store) for config in request.configs)
    # A checkpoint is written beside the one before it.
    storage = n_copies * n_left * kept + 2 * min(n_concurrent, n_left) * saved
    if loading.name == "stream":
        return Room(storage)
    decoded = max(projection_bytes(request.store, config) for config in request.configs)
    return Room(storage, request.cache_bytes(), decoded)


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


def cache_fault(room: Room, object_store_bytes: float) -> Fault | None:
    """What is wrong with a node whose object store is smaller than the projections that it would keep."""
    if room.cache_bytes <= object_store_bytes:
        return None
    return Fault(
        "memory",
        f"the object store holds {gib(object_store_bytes)}, and the genes that a node keeps decoded take "
        f"{gib(room.cache_bytes)}",
        "use --loading stream, a shorter window or fewer signals, or nodes with a larger object store",
    )


def mib(n_bytes: float) -> str:
    """Bytes in MiB."""
    return f"{n_bytes / 2**20:,.1f} MiB"


def gib(n_bytes: float) -> str:
    """Bytes in GiB."""
    return f"{n_bytes / 2**30:.3g} GiB"
