"""What every node of the cluster is asked before a launch's first trial: does it see the folders, has it room?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prism_ray.distributed.node_sight import SHARED_MEMORY, NodeSight, look
from prism_ray.distributed.room import Room, cache_fault
from prism_ray.errors import Fault, FaultList, StoreError
from prism_ray.sizes import size_text
from prism_ray.store import StorePlace

_ANSWER_TIMEOUT_S = 60.0


def check_nodes(storage: Path, store: StorePlace, room: Room) -> int:
    """Have every node of the joined cluster look for a file that this process has just written and for the store, and
    say how much room it has.

    Returns:
        Number of living nodes.

    Raises:
        StoreError: naming the nodes that do not see one of them, have too little room, or do not answer.
    """
    storage.mkdir(parents=True, exist_ok=True)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    with tempfile.NamedTemporaryFile(dir=storage, prefix=".prism-ray-check-") as token:
        here = _this_node()
        ask = ray.remote(num_cpus=0)(look)
        asked, sights = {}, []
        for node in nodes:
            has = node["Resources"]
            known = NodeSight(
                node["NodeManagerAddress"], bool(has.get("CPU")), float(has.get("object_store_memory", 0.0))
            )
            if node["NodeID"] == here:
                # This process is there: a task would start another for it.
                sights.append(look(known, token.name, str(store)))
                continue
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[ask.options(scheduling_strategy=there).remote(known, token.name, str(store))] = known
        answered, silent = [], []
        if asked:
            answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_TIMEOUT_S)
        sights += [sight for question in answered if (sight := _answer(question)) is not None]
    sights += [NodeSight(asked[question].address, has_answered=False) for question in silent]
    faults = FaultList()
    faults.extend(node_faults(storage, store, room, sights))
    faults.raise_if_any(StoreError)
    return len(nodes)


def node_faults(storage: Path, store: StorePlace, room: Room, sights: Sequence[NodeSight]) -> list[Fault]:
    """Everything that keeps a launch from these nodes; nodes with one problem are named together."""
    by_problem: dict[tuple[str, str, str], list[str]] = {}
    for sight in sights:
        for problem in _problems(storage, store, room, sight):
            by_problem.setdefault(problem, []).append(sight.address)
    return [
        Fault(where, problem.format(nodes=_named(addresses, len(sights))), fix)
        for (where, problem, fix), addresses in by_problem.items()
    ]


def _named(addresses: Sequence[str], n_nodes: int) -> str:
    return f"{len(addresses)} of {n_nodes} nodes: {', '.join(sorted(addresses))}"


def _problems(storage: Path, store: StorePlace, room: Room, sight: NodeSight) -> list[tuple[str, str, str]]:
    """Place, problem with `{nodes}` for who has it, and what to do, of everything that is wrong with a node."""
    in_storage, in_store = f"--storage {storage}", f"--store {store}"
    share = "give a folder on storage that all nodes share"
    blind = "is not seen by {nodes}"
    if not sight.has_answered:
        return [(in_storage, blind, share), (in_store, blind, share)]
    found = []
    if not sight.sees_storage:
        found.append((in_storage, blind, share))
    elif sight.storage_free < room.storage_bytes:
        problem = f"its disk has {size_text(sight.storage_free)} free, and the trials that are left write up to "
        found.append(
            (
                in_storage,
                f"{problem}{size_text(room.storage_bytes)}, by {{nodes}}",
                "free space, give a larger disk, or run fewer trials",
            )
        )
    if sight.store_problem:
        found.append((in_store, f"{blind} ({_literal(sight.store_problem)})", share))
    return found + (_too_small(room, sight) if sight.runs_trials else [])


def _too_small(room: Room, sight: NodeSight) -> list[tuple[str, str, str]]:
    """What of a node's memory is too small for the genes that it keeps decoded."""
    where = "memory"
    fault = None if sight.object_store_bytes is None else cache_fault(room, sight.object_store_bytes)
    if fault is not None:
        return [(where, f"{fault.problem}, on {{nodes}}", fault.fix)]
    fix = "use --loading stream, a shorter window or fewer signals, or nodes with more memory"
    needed = room.cache_bytes + room.decode_bytes
    if sight.memory_free < needed:
        taken = f"the genes take {size_text(needed)} while they are decoded"
        return [(where, f"{size_text(sight.memory_free)} are free, and {taken}, on {{nodes}}", fix)]
    if sight.shared_free is not None and sight.shared_free < room.cache_bytes:
        taken = f"the genes take {size_text(room.cache_bytes)}"
        problem = f"{SHARED_MEMORY} has {size_text(sight.shared_free)} free, and {taken}, on {{nodes}}"
        return [(where, problem, "free space there, or use --loading stream")]
    return []


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _this_node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _answer(question: ray.ObjectRef) -> NodeSight | None:
    try:
        sight: NodeSight = ray.get(question)
    except ray.exceptions.RayError:
        return None  # the node left meanwhile: its trials go elsewhere
    return sight
