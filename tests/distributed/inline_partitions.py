"""Partitions done one after the other in this process: what the workers do, without the seconds of their start."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from prism_ray.distributed.partition_run import FAULTS, PARTITION, RESULT, PartitionWorker
from prism_ray.errors import Fault, FaultList, InputError


def run_inline(
    worker: type[PartitionWorker],
    arguments: tuple[Any, ...],
    sizes: dict[int, int],
    n_workers: int | None,
    on_done: Callable[[int, str], None],
    say: Callable[[str], None],
    where: str,
) -> None:
    done = worker(*arguments)
    for number in sizes:
        row = done({PARTITION: np.array([number])})
        faults = FaultList()
        faults.extend(Fault(**fault) for fault in json.loads(row[FAULTS][0]))
        faults.raise_if_any(InputError)
        on_done(number, str(row[RESULT][0]))


def without_ray(patch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Have modules that run partitions do so in this process."""
    for module in modules:
        patch.setattr(module, "run_partitions", run_inline)
        patch.setattr(module, "ray_runtime", nullcontext)
