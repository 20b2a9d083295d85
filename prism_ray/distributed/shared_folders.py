"""Whether folders that a study needs are seen by every node of the cluster, asked before its first trial."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prism_ray.errors import FaultList, StoreError

_ANSWER_TIMEOUT_S = 60.0


def check_shared(storage: Path, store: Path) -> int:
    """Have every other node of the joined cluster look for a file that this process has just written, and the store.

    Returns:
        Number of living nodes.

    Raises:
        StoreError: naming the nodes that do not see one of them, or do not answer.
    """
    storage.mkdir(parents=True, exist_ok=True)
    here = _this_node()
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    faults = FaultList()
    with tempfile.NamedTemporaryFile(dir=storage, prefix=".prism-ray-check-") as token:
        wanted = {f"--storage {storage}": token.name, f"--store {store}": str(store)}
        look = ray.remote(num_cpus=0)(_missing)
        asked = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                list(wanted.values())
            ): address
            for node, address in nodes.items()
            if node != here
        }
        answered, silent = (
            ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_TIMEOUT_S) if asked else ([], [])
        )
        missing = {asked[question]: _answer(question) for question in answered}
        missing |= {asked[question]: set(wanted.values()) for question in silent}
    for flag, path in wanted.items():
        blind = sorted(address for address, paths in missing.items() if path in paths)
        if blind:
            faults.add(
                flag,
                f"is not seen by {len(blind)} of {len(nodes)} nodes: {', '.join(blind)}",
                "give a folder on storage that all nodes share",
            )
    faults.raise_if_any(StoreError)
    return len(nodes)


def _this_node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _answer(question: ray.ObjectRef) -> set[str]:
    try:
        return set(ray.get(question))
    except ray.exceptions.RayError:
        return set()  # the node left meanwhile: its trials go elsewhere


def _missing(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]
