"""Genes into training: each node decodes a projection of the store once and all its trials share it."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import prism_ray.store
from prism_ray.config import DataConfig
from prism_ray.distributed.projections import CACHED_PROJECTIONS, projection_key
from prism_ray.errors import PrismRayError
from prism_ray.machine import usable_cpus
from prism_ray.store import GeneArrays, StorePlace
from prism_ray.store.reading import bytes_read


def read_projection(store: StorePlace, data: DataConfig) -> GeneArrays:
    """Genes of a run's cell type with just what the run reads, decoded in this process by all CPUs of its node.

    Whoever trains there waits for them. By default a Ray worker without a CPU of its own would use one thread.
    """
    return prism_ray.store.open(store).load(
        data.window_bp,
        data.signals,
        data.cell_type,
        sequence=data.sequence,
        scalars=data.scalars,
        n_threads=usable_cpus(),
    )


@lru_cache(CACHED_PROJECTIONS)
def process_projection(store: StorePlace, digest: str, key: str) -> GeneArrays:
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
    """Projections of one store, decoded and put into this node's object store.

    Args:
        store: place of the store.
        ledger: name of the cache that is told what is read; may be this one's.
    """

    def __init__(self, store: str, ledger: str) -> None:
        self._store = prism_ray.store.place_of(store)
        self._ledger = ledger
        self._references: OrderedDict[str, Any] = OrderedDict()
        self._n_decoded = 0
        self._reads: Counter[str] = Counter()
        self._told: list[Any] = []

    def projection(self, key: str, data: DataConfig) -> list[Any]:
        """Reference to the projection, in a list so that Ray hands on the reference and not the value."""
        if key not in self._references:
            before = bytes_read()
            self._references[key] = ray.put(read_projection(self._store, data))
            self._told += tell_reads(self._ledger, bytes_read() - before)
            self._n_decoded += 1
            if len(self._references) > CACHED_PROJECTIONS:
                self._references.popitem(last=False)
        self._references.move_to_end(key)
        return [self._references[key]]

    def n_decoded(self) -> int:
        """How often a projection was decoded: once a kind, as long as it is not pushed out by others."""
        return self._n_decoded

    def add_reads(self, node_id: str, n_bytes: int) -> None:
        """Note bytes of the store that a node has read."""
        self._reads[node_id] += n_bytes

    def reads(self) -> dict[str, int]:
        """Bytes of the store by the id of the node that read them, as far as this cache was told."""
        return dict(self._reads)

    def settled(self) -> list[Any]:
        """What is on its way to the ledger, to be waited for."""
        return self._told


def cache_name(store: StorePlace, digest: str, node_id: str) -> str:
    """Name of the cache actor of a node.

    Args:
        digest: of the store's data; stores that differ do not share a cache, nor do copies of one: a copy may be
            damaged, and its user is to read of this one's files.
    """
    place = hashlib.sha256(str(store).encode()).hexdigest()[:8]
    return f"prism-ray-cache-{digest[:16]}-{place}-{node_id}"


def node_cache(store: StorePlace, digest: str, node_id: str, ledger: str = "") -> Any:
    """The cache actor of a node, started where it is not running.

    It lives as long as the process that started it: the driver starts those of the nodes it sees, so that a
    trial that dies takes no cache with it.

    Args:
        digest: of the store's data.
        ledger: name of the cache that is told what is read, see `start_node_caches`; empty to tell nobody.
    """
    return _NodeCache.options(  # type: ignore[attr-defined]
        name=cache_name(store, digest, node_id),
        get_if_exists=True,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    ).remote(str(store), ledger)


@dataclass(frozen=True)
class NodeCaches:
    """Cache actors of all nodes of a cluster; they live while this is held.

    Attributes:
        ledger: name of the one on this node, which is told what every node reads of the store: those of nodes that
            are lost, or come later, too.
        actors: all of them.
    """

    ledger: str
    actors: tuple[Any, ...]


def start_node_caches(store: StorePlace, digest: str) -> NodeCaches:
    """Cache actors of all nodes of the cluster."""
    here = str(ray.get_runtime_context().get_node_id())
    ledger = cache_name(store, digest, here)
    others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    return NodeCaches(ledger, tuple(node_cache(store, digest, node, ledger) for node in (here, *others)))


def tell_reads(ledger: str, n_bytes: int) -> list[Any]:
    """Tell a ledger that this node has read some bytes; what can be waited for, nothing where there is no ledger."""
    if not ledger or not n_bytes:
        return []
    try:
        actor = ray.get_actor(ledger)
    except ValueError:
        return []  # the launch has ended meanwhile
    return [actor.add_reads.remote(ray.get_runtime_context().get_node_id(), n_bytes)]


def node_reads(caches: NodeCaches) -> dict[str, int]:
    """Bytes of the store that each node has read since the caches were started, by its address and id.

    Empty where the ledger was killed: an account that is lost ends no launch.
    """
    for actor in caches.actors:
        try:
            ray.get(ray.get(actor.settled.remote()))
        except RayError:
            continue  # its node is lost; what it had told is known
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    try:
        reads = ray.get(caches.actors[0].reads.remote())
    except RayError:
        return {}
    return {f"{addresses[node]} ({node[:8]})": n_bytes for node, n_bytes in reads.items()}


def shared_projection(store: StorePlace, digest: str, data: DataConfig, ledger: str = "") -> GeneArrays:
    """The projection from this node's cache: arrays are read-only views of the node's shared memory.

    Args:
        ledger: as for `node_cache`.

    Raises:
        StoreError: a file of the store is damaged.
    """
    cache = node_cache(store, digest, ray.get_runtime_context().get_node_id(), ledger)
    try:
        (reference,) = ray.get(cache.projection.remote(projection_key(data), data))
    except RayTaskError as problem:
        # Ray's own text of it is a traceback.
        if isinstance(problem.cause, PrismRayError):
            raise problem.cause from None
        raise
    arrays: GeneArrays = ray.get(reference)
    return arrays
