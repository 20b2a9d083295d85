"""Everything of a study that can fail before its first trial, each looked at, all said.

The cheap checks are those that every launch makes (`check_launch`); the others need a cluster, a tracker or a step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import prism_ray.store
from prism_ray.distributed.disk import copies_kept
from prism_ray.distributed.launch_checks import Check, cheap_checks
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading_choice import OpenCluster
from prism_ray.distributed.packing import pack
from prism_ray.distributed.probe import Measure, probe, probed_configs
from prism_ray.distributed.room import room_needed
from prism_ray.distributed.searcher import StudySearcher
from prism_ray.distributed.step_costs import StepCost, keep_probes
from prism_ray.distributed.study_room import read_request
from prism_ray.distributed.study_search import search_database
from prism_ray.errors import Fault, PrismRayError
from prism_ray.sizes import size_text
from prism_ray.store import Store
from prism_ray.study.spec import Study
from prism_ray.tracking import prepare
from prism_ray.tracking.addresses import database_file, redact


@dataclass(frozen=True)
class CheckSettings:
    """How a study is checked.

    Attributes:
        launch: where and how it would run.
        deep: hash every byte of the store's files, too.
        pack: say how many trials share a GPU by what was measured; trials then have all of one while they are.
        measure: what measures a step; None for what runs the trials.
    """

    launch: StudySettings
    deep: bool = False
    pack: bool = False
    measure: Measure | None = None


def check_study(study: Study, settings: CheckSettings) -> Iterator[Check]:
    """Each check as it is done; those that need what failed are left out, and said to be."""
    failed = False
    for check in cheap_checks(study, settings.launch):
        failed = failed or not check.ok
        yield check
    launch = settings.launch
    if not failed and settings.deep:
        yield _checked("store, every byte", lambda: _verified(prism_ray.store.open(launch.store)))
    yield _checked("storage", lambda: _writable(launch.storage))
    yield _checked("tracker", lambda: _tracked(launch.tracking_uri))
    if failed:
        yield Check("cluster and steps", (), "left out: they need what failed above", ok=True)
        return
    if study.search is not None:
        yield _checked("search database", lambda: _searchable(study, launch))
    yield from _on_the_cluster(study, settings)


def _on_the_cluster(study: Study, settings: CheckSettings) -> Iterator[Check]:
    launch = settings.launch
    store = prism_ray.store.open(launch.store)
    request = read_request(study, store, launch.loading)
    with ExitStack() as stack:
        opened: list[OpenCluster] = []

        def enter() -> str:
            cluster = stack.enter_context(
                launch.backend.open(
                    request, launch.resources, address=launch.address, max_concurrent=launch.max_concurrent
                )
            )
            opened.append(cluster)
            return f"{cluster.n_concurrent} trials at once, genes by --loading {cluster.loading.name}"

        yield _checked("resources and loading", enter)
        if not opened:
            return
        n_copies = copies_kept(launch.tracking_uri, launch.storage)
        room = room_needed(request, opened[0].loading, study.n_trials, opened[0].n_concurrent, n_copies)
        yield _checked(
            "folders and room on every node", lambda: launch.backend.check_nodes(launch.storage, launch.store, room)
        )
        yield from _steps(study, settings)
    if settings.pack:
        yield _checked("trials a GPU", lambda: str(pack(study, launch.storage, launch.resources)))


def _steps(study: Study, settings: CheckSettings) -> Iterator[Check]:
    launch = settings.launch
    for name, config in probed_configs(study):
        found: list[StepCost] = []

        def measure(config: object = config, found: list[StepCost] = found) -> str:
            measured_by = settings.measure or launch.backend.measure
            cost = probe(config, launch.store, launch.resources, measured_by)  # type: ignore[arg-type]
            keep_probes(launch.storage, [cost])
            found.append(cost)
            return (
                f"{cost.step_s:.3g} s a step, {cost.evaluate_s:.3g} s a gene evaluated, "
                f"{size_text(cost.peak_bytes)} at its peak, on {cost.device}"
            )

        yield _checked(f"step of the {name} trial", measure)
        if not found:
            return


def _checked(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, (), look(), ok=True)
    except PrismRayError as problem:
        return Check(name, problem.faults or (Fault(name, str(problem)),), "", ok=False)
    except OSError as problem:
        fault = Fault(
            str(problem.filename or name), problem.strerror or str(problem), "choose another place, or make room"
        )
        return Check(name, (fault,), "", ok=False)


def _verified(store: Store) -> str:
    store.verify()
    return f"{len(store.description.all_files)} files as they were written"


def _writable(storage: Path) -> str:
    """Write, and take away, a file in the workspace or in the nearest folder above it that is there."""
    there = next(folder for folder in (storage, *storage.parents) if folder.exists())
    with tempfile.NamedTemporaryFile(dir=there, prefix=".prism-ray-check-"):
        return f"{storage} can be written"


def _tracked(uri: str) -> str:
    file = database_file(uri)
    if file is not None and not file.exists():
        _writable(file.parent)
        return f"{redact(uri)} will be made"
    prepare(uri)
    return f"{redact(uri)} answers"


def _searchable(study: Study, launch: StudySettings) -> str:
    database = search_database(launch, study.name)
    if isinstance(database, Path) and not database.exists():
        return f"{database} will be made"
    store = prism_ray.store.open(launch.store)
    return f"{StudySearcher(study, database, store.digest).n_complete} different settings have an outcome"
