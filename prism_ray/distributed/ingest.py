"""Genes into training: each node decodes a projection of the store once and all its trials share it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import prism_ray.store
from prism_ray.config import DataConfig
from prism_ray.distributed.projections import projection_key
from prism_ray.errors import PrismRayError
from prism_ray.store import GeneArrays

CACHED_PROJECTIONS = 4
"""Projections kept a node: trials of a study come in few kinds, and the object store is not large."""


def read_projection(store: Path, data: DataConfig) -> GeneArrays:
    """Genes of a run's cell type with just what the run reads, decoded in this process."""
    return prism_ray.store.open(store).load(
        data.window_bp, data.signals, data.cell_type, sequence=data.sequence, scalars=data.scalars
    )


@lru_cache(CACHED_PROJECTIONS)
def process_projection(store: Path, digest: str, key: str) -> GeneArrays:
    """The projection of a `projection_key`, decoded once in this process; not to be changed.

    Args:
        digest: of the store's data: a store that was built again is read again.

    Raises:
        StoreError: a file of the store is damaged.
    """
    arrays = read_projection(store, DataConfig.model_validate_json(key))
    return arrays


@ray.remote(num_cpus=0)
class _NodeCache:
    """Projections of one store, decoded and put into this node's object store."""

    def __init__(self, store: str) -> None:
        self._store = Path(store)
        self._references: OrderedDict[str, Any] = OrderedDict()
        self._n_decoded = 0

    def projection(self, key: str, data: DataConfig) -> list[Any]:
        """Reference to the projection, in a list so that Ray hands on the reference and not the value."""
        if key not in self._references:
            self._references[key] = ray.put(read_projection(self._store, data))
            self._n_decoded += 1
            if len(self._references) > CACHED_PROJECTIONS:
                self._references.popitem(last=False)
        self._references.move_to_end(key)
        return [self._references[key]]

    def n_decoded(self) -> int:
        """How often a projection was decoded: once a kind, as long as it is not pushed out by others."""
        return self._n_decoded


def node_cache(store: Path, digest: str, node_id: str) -> Any:
    """The cache actor of a node, started where it is not running.

    It lives as long as the process that started it: the driver starts those of the nodes it sees, so that a
    trial that dies takes no cache with it.

    Args:
        digest: of the store's data; stores that differ do not share a cache, nor do copies of one: a copy may be
            damaged, and its user is to read of this one's files.
    """
    place = hashlib.sha256(str(store).encode()).hexdigest()[:8]
    return _NodeCache.options(  # type: ignore[attr-defined]
        name=f"prism-ray-cache-{digest[:16]}-{place}-{node_id}",
        get_if_exists=True,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    ).remote(str(store))


def start_node_caches(store: Path, digest: str) -> list[Any]:
    """Cache actors of all nodes of the cluster; they live while the list is held."""
    return [node_cache(store, digest, node["NodeID"]) for node in ray.nodes() if node["Alive"]]


def shared_projection(store: Path, digest: str, data: DataConfig) -> GeneArrays:
    """The projection from this node's cache: arrays are read-only views of the node's shared memory.

    Raises:
        StoreError: a file of the store is damaged.
    """
    cache = node_cache(store, digest, ray.get_runtime_context().get_node_id())
    try:
        (reference,) = ray.get(cache.projection.remote(projection_key(data), data))
    except RayTaskError as problem:
        # Ray's own text of it is a traceback.
        if isinstance(problem.cause, PrismRayError):
            raise problem.cause from None
        raise
    arrays: GeneArrays = ray.get(reference)
    return arrays
