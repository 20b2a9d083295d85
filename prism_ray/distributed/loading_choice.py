"""How the runs of a launch get their genes: what is asked for, and what is chosen. Loads neither Ray nor PyTorch.

`cache`: a node decodes a projection of the store once and all trials on it share the arrays (ingest.py). `stream`: a
trial reads ahead while it trains (streaming.py). `process`: decoded in the process that trains, where there is no
cluster. All give the same batches in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from prism_ray.config import RunConfig
from prism_ray.distributed.projections import CACHED_PROJECTIONS, projection_bytes, projection_key
from prism_ray.errors import FaultList, InputError
from prism_ray.store import Store

LoadingName = Literal["cache", "stream", "process"]
LoadingAsked = Literal["auto", "cache", "stream"]

READER_CPUS = 1
"""CPUs that streaming leaves to the tasks that read, beyond what the trials take."""
MOST_BUFFER_BYTES = 512 << 20


@dataclass(frozen=True)
class Loading:
    """How one trial gets its genes; decides how fast it is and nothing else.

    Attributes:
        name: `cache`, `stream` or `process`.
        reader_cpus, reader_threads, buffer_bytes: of the trial's stream; see `StreamPlan`.
        ledger: name of the actor that is told what a node reads; empty for none.
    """

    name: LoadingName = "cache"
    reader_cpus: float = float(READER_CPUS)
    reader_threads: int = 1
    buffer_bytes: int = MOST_BUFFER_BYTES
    ledger: str = ""


@dataclass(frozen=True)
class OpenCluster:
    """Where the trials of a launch run.

    Attributes:
        n_concurrent: trials at once.
        loading: how they get their genes.
        reads: asks for the bytes of the store that each node has read so far, by node.
    """

    n_concurrent: int
    loading: Loading
    reads: Callable[[], dict[str, int]] = dict


@dataclass(frozen=True)
class LoadingRequest:
    """What the runs of a launch read.

    Attributes:
        asked: how they are to get it; `auto` to choose by size.
        store: where it is.
        configs: runs that between them read every projection, with their cell types and folds.
        any_between: also projections that are none of these but smaller, as a search reads them.
    """

    asked: LoadingAsked
    store: Store
    configs: tuple[RunConfig, ...]
    any_between: bool = False

    def cache_bytes(self) -> int:
        """Bytes of the largest projections that a node may hold at once, from above."""
        kinds = {projection_key(config.data): config for config in self.configs}
        sizes = sorted(projection_bytes(self.store, config) for config in kinds.values())
        if self.any_between and len(sizes) > 1:
            return CACHED_PROJECTIONS * sizes[-1]
        return sum(sizes[-CACHED_PROJECTIONS:])


def check_loading_name(name: str) -> None:
    """Refuse a way of loading that there is not.

    Raises:
        InputError: with those that there are.
    """
    faults = FaultList()
    if name not in get_args(LoadingAsked):
        faults.add("--loading", f"{name!r} is no way of loading", f"use one of {', '.join(get_args(LoadingAsked))}")
    faults.raise_if_any(InputError)


def choose_loading(asked: LoadingAsked, cache_bytes: int, room_bytes: int) -> LoadingName:
    """The way that was asked for, or the node cache where the projections fit into the room for them."""
    if asked != "auto":
        return asked
    return "cache" if cache_bytes <= room_bytes else "stream"
