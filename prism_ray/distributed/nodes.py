"""Whether a node on which a trial's process died is gone: a preemption, or a machine that lost power.

A driver hears of a dead process at once, and of a dead node only when it has been silent to the cluster for some
15 s. Until one or the other is certain the death is not judged.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_SILENCE_S = 60.0
"""A node that answers nobody for so long is lost, whatever the cluster still says."""


class NodeWatch:
    """Answers, for a node by its id, whether it is gone; None as long as that is not known. Needs a running cluster."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[Any, float]] = {}

    def __call__(self, node: str) -> bool | None:
        """Look at what is known now; the first look at a node asks it to answer, and none of them waits."""
        alive = {known["NodeID"] for known in ray.nodes() if known["Alive"]}
        if node not in alive:
            self._asked.pop(node, None)
            return True
        if node not in self._asked:
            strategy = NodeAffinitySchedulingStrategy(node, soft=False)
            question = ray.remote(_here).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote()
            self._asked[node] = question, time.monotonic()
        question, since = self._asked[node]
        if not ray.wait([question], timeout=0)[0]:
            return True if time.monotonic() - since > _SILENCE_S else None
        del self._asked[node]  # a later death is another matter
        try:
            ray.get(question)
        except ray.exceptions.RayError:
            return True
        return False


def _here() -> None:
    """What a node answers."""
