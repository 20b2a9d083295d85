"""The room that a launch needs: of the workspace's disk, and of each node's memory."""

from __future__ import annotations

from dataclasses import dataclass

from prism_ray.distributed.disk import storage_bytes
from prism_ray.distributed.loading_choice import Loading, LoadingRequest
from prism_ray.distributed.projections import projection_bytes
from prism_ray.errors import Fault
from prism_ray.sizes import size_text


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
        genes = f", {size_text(self.cache_bytes)} of object store, {size_text(self.decode_bytes)} while decoding"
        return f"{size_text(self.storage_bytes)} of disk" + (genes if self.cache_bytes else "")


def room_needed(request: LoadingRequest, loading: Loading, n_left: int, n_concurrent: int, n_copies: int = 1) -> Room:
    """Room for the trials of a launch.

    Args:
        request: what they read, and runs that are as large as any of them.
        loading: how they get it.
        n_left: trials to be run.
        n_concurrent: of them at once.
        n_copies: of what a trial leaves, see `copies_kept`.
    """
    storage = storage_bytes(request.configs, request.store, n_left, n_concurrent, n_copies)
    if loading.name == "stream":
        return Room(storage)
    decoded = max(projection_bytes(request.store, config) for config in request.configs)
    return Room(storage, request.cache_bytes(), decoded)


def cache_fault(room: Room, object_store_bytes: float) -> Fault | None:
    """What is wrong with a node whose object store is smaller than the projections that it would keep."""
    if room.cache_bytes <= object_store_bytes:
        return None
    return Fault(
        "memory",
        f"the object store holds {size_text(object_store_bytes)}, and the genes that a node keeps decoded take "
        f"{size_text(room.cache_bytes)}",
        "use --loading stream, a shorter window or fewer signals, or nodes with a larger object store",
    )
