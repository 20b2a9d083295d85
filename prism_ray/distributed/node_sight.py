"""What one node sees of a launch's folders, and how much room it has; loads neither PyTorch nor Ray."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from prism_ray.errors import StoreError
from prism_ray.store import place_of

SHARED_MEMORY = Path("/dev/shm")
"""Where Ray keeps a node's object store, unless it is too small for it."""


@dataclass(frozen=True)
class NodeSight:
    """What a node sees and has.

    Attributes:
        address: of the node.
        runs_trials: whether it has CPUs, and with them trials and genes.
        object_store_bytes: size of its object store, as Ray counts it; None where there is no cluster.
        has_answered: whether it said the rest.
        sees_storage: whether the file is there that the driver has just written to the workspace.
        store_problem: why it cannot read the store; empty where it can.
        storage_free: bytes free on the workspace's disk.
        memory_free: bytes of memory free for programs and object store together, as if nothing were in the latter.
        shared_free: the same of the shared memory that holds the object store; None where something else does.
    """

    address: str
    runs_trials: bool = True
    object_store_bytes: float | None = None
    has_answered: bool = True
    sees_storage: bool = True
    store_problem: str = ""
    storage_free: int = 0
    memory_free: int = 0
    shared_free: int | None = None


def look(known: NodeSight, token: str, store: str) -> NodeSight:
    """What the node of this process sees and has.

    Args:
        known: what Ray says of it.
        token: file that the driver has written to the workspace.
        store: place of the store.
    """
    file = Path(token)
    return _looked(known, file.parent if file.exists() else None, store)


def sight_of(address: str, storage: Path, store: str) -> NodeSight:
    """What this machine sees and has, for programs without a cluster."""
    storage.mkdir(parents=True, exist_ok=True)
    return _looked(NodeSight(address), storage, store)


def _looked(known: NodeSight, storage: Path | None, store: str) -> NodeSight:
    memory = psutil.virtual_memory()
    # Pages of an object store stay its own when what was in them is gone: they count as free for what comes.
    in_store = known.object_store_bytes or 0.0
    touched = int(min(getattr(memory, "shared", 0), in_store))
    shared = shutil.disk_usage(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    return NodeSight(
        known.address,
        known.runs_trials,
        known.object_store_bytes,
        sees_storage=storage is not None,
        store_problem=_store_problem(store),
        storage_free=0 if storage is None else shutil.disk_usage(storage).free,
        memory_free=memory.available + touched,
        shared_free=shared.free + touched if shared is not None and 0 < in_store <= shared.total else None,
    )


def _store_problem(store: str) -> str:
    try:
        return "" if place_of(store).exists() else "nothing is there"
    except StoreError as problem:
        return "; ".join(f"{fault.problem}; {fault.fix}" for fault in problem.faults)
