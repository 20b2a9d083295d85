"""What every launch of a study checks before it starts or writes anything: cheap, and all of it said together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import prism_ray.store
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.projections import gene_chroms, read_run
from prism_ray.distributed.run_check import run_faults
from prism_ray.errors import ConfigError, Fault, FaultList, PrismRayError
from prism_ray.store import Store
from prism_ray.study.spec import Study
from prism_ray.study.store_check import check_against_store


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        faults: what is wrong with it; empty where nothing is.
        detail: what was found.
        ok: whether a launch may go on.
        kind: class of what was raised; None where nothing was.
    """

    name: str
    faults: tuple[Fault, ...]
    detail: str
    ok: bool
    kind: type[PrismRayError] | None = None


class _Opened:
    """The store of a launch, once it could be opened."""

    store: Store | None = None


def check_launch(study: Study, settings: StudySettings) -> Store:
    """Refuse what cannot run, before anything is started or written; the study's store, opened.

    Raises:
        PrismRayError: with all reasons; of the kind of the first check that fails.
    """
    opened = _Opened()
    faults = FaultList()
    kind: type[PrismRayError] | None = None
    for check in _checks(study, settings, opened):
        faults.extend(check.faults)
        kind = kind or check.kind
    faults.raise_if_any(kind or ConfigError)
    assert opened.store is not None
    return opened.store


def cheap_checks(study: Study, settings: StudySettings) -> Iterator[Check]:
    """The checks of `check_launch`, one after the other."""
    return _checks(study, settings, _Opened())


def _checks(study: Study, settings: StudySettings, opened: _Opened) -> Iterator[Check]:
    yield _check("store", lambda: _open(settings, opened))
    store = opened.store
    if store is not None:
        inputs = _check("inputs of every trial", lambda: _inputs(study, store))
        yield inputs
        if inputs.ok:
            yield _check("folds", lambda: _folds(study, store))
            yield _check("batches", lambda: _batches(study, store, settings))
    yield _check("trials at once", lambda: _at_once(settings))
    yield _check("what runs the trials", lambda: _backend(settings))


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, (), look(), ok=True)
    except PrismRayError as problem:
        return Check(name, problem.faults or (Fault(name, str(problem)),), "", ok=False, kind=type(problem))


def _open(settings: StudySettings, opened: _Opened) -> str:
    opened.store = prism_ray.store.open(settings.store)
    description = opened.store.description
    return (
        f"{len(description.all_files)} files, window {opened.store.window_bp:,} bp, digest {opened.store.digest[:12]}"
    )


def _inputs(study: Study, store: Store) -> str:
    check_against_store(study, store)
    return "signals, scalars, windows, cell types and folds are in the store"


def _folds(study: Study, store: Store) -> str:
    """Splits of every fold and cell type; a split is proved to have each gene in one part."""
    for fold, cell_type in product(study.folds, study.cell_types):
        store.folds.split(fold, gene_chroms(store, cell_type))
    return f"training, validation and test of {len(study.folds)} folds share no gene and no chromosome"


def _batches(study: Study, store: Store, settings: StudySettings) -> str:
    """Refuse batches that a fold's genes do not fill or the workers cannot share."""
    configs = {(arm.config.training.batch_size, arm.config.evaluation.cell_type): arm.config for arm in study.arms} or {
        (0, ""): study.baseline
    }
    faults = FaultList()
    found = [
        fault
        for config, cell_type, fold in product(configs.values(), study.cell_types, study.folds)
        for fault in run_faults(
            read_run(study.with_place(config, study.seeds[0], fold, cell_type)),
            store,
            settings.resources.n_workers,
            str(study.path),
        )
    ]
    faults.extend(dict.fromkeys(found))
    faults.raise_if_any(ConfigError)
    sizes = sorted({config.training.batch_size for config in configs.values()})
    return f"{', '.join(map(str, sizes))} genes a step, on {settings.resources.n_workers} workers a trial"


def _at_once(settings: StudySettings) -> str:
    faults = FaultList()
    asked = settings.max_concurrent
    if asked is not None and asked < 1:
        faults.add("--max-concurrent", f"{asked} trials at once", "use 1 or more, or leave it out")
    faults.raise_if_any(ConfigError)
    return "as many as fit" if asked is None else f"at most {asked}"


def _backend(settings: StudySettings) -> str:
    settings.backend.check(settings.resources, settings.loading, settings.address)
    return type(settings.backend).__name__
