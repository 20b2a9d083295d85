"""What a study reads, and whether a cluster that this process is no part of has room for it. Loads no PyTorch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from itertools import product

from prism_ray.distributed.disk import copies_kept
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading_choice import Loading, LoadingAsked, LoadingRequest
from prism_ray.distributed.node_checks import node_faults
from prism_ray.distributed.node_sight import NodeSight
from prism_ray.distributed.room import room_needed
from prism_ray.errors import FaultList, StoreError
from prism_ray.store import Store
from prism_ray.study.extremes import search_runs
from prism_ray.study.spec import Study


def read_request(study: Study, store: Store, asked: LoadingAsked) -> LoadingRequest:
    """What the trials of a study read, whichever of them are left."""
    configs = search_runs(study) if study.search is not None else tuple(arm.config for arm in study.arms)
    placed = [
        study.with_place(config.trained(), study.seeds[0], fold, cell_type)
        for config, cell_type, fold in product(configs, study.cell_types, study.folds)
    ]
    return LoadingRequest(asked, store, tuple(dict.fromkeys(placed)), any_between=study.search is not None)


def check_room(
    study: Study, launch: StudySettings, store: Store, n_left: int, object_stores: Mapping[str, float]
) -> None:
    """Refuse a launch on a cluster that this process is no part of, where what is known here shows too little room.

    Args:
        study: what is to be run.
        launch: where and how.
        store: its data, opened.
        n_left: trials that are to be run.
        object_stores: bytes of the object store of each node that runs trials, by its address.

    Raises:
        StoreError: nodes cannot keep the genes, or the workspace, where this machine sees it, has no room for trials.
    """
    # What does not fit is streamed, unless the cache is asked for.
    loading = Loading("cache" if launch.loading == "cache" else "stream")
    n_copies = copies_kept(launch.tracking_uri, launch.storage)
    room = room_needed(read_request(study, store, launch.loading), loading, n_left, 1, n_copies)
    free = shutil.disk_usage(launch.storage).free if launch.storage.is_dir() else room.storage_bytes
    sights = [
        NodeSight(
            address,
            object_store_bytes=n_bytes,
            storage_free=free,
            memory_free=room.cache_bytes + room.decode_bytes,  # asked by the job
        )
        for address, n_bytes in object_stores.items()
    ]
    faults = FaultList()
    faults.extend(node_faults(launch.storage, launch.store, room, sights))
    faults.raise_if_any(StoreError)
