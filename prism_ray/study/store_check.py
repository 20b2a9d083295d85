"""A study against the store that it is to run on: everything that it names must be there, before the first trial."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from prism_ray.config import RunConfig
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.study.spec import Study


class FoldNames(Protocol):
    """The folds of a store."""

    @property
    def names(self) -> Sequence[str]: ...


class StoreContents(Protocol):
    """What a study needs to know of a feature store; `prism_ray.store.Store` fits."""

    @property
    def signals(self) -> Collection[str]: ...
    @property
    def window_bp(self) -> int: ...
    @property
    def cell_types(self) -> Collection[str]: ...
    @property
    def folds(self) -> FoldNames: ...
    @property
    def has_sequence(self) -> bool: ...
    @property
    def scalar_names(self) -> Collection[str]: ...
    def signals_of(self, cell_type: str) -> Collection[str]: ...


def check_against_store(study: Study, store: StoreContents) -> None:
    """Check that the store has every signal, scalar, window, fold and cell type that a trial reads.

    Raises:
        ConfigError: with everything that is missing, and the arms or searched settings that ask for it.
    """
    faults = FaultList()
    for name in study.cell_types:
        if name not in store.cell_types:
            fix = did_you_mean(name, store.cell_types)
            faults.add(f"{study.path}: cell_types", f"{name!r} is not in the store", fix)
    for name in study.folds:
        if name not in store.folds.names:
            fix = did_you_mean(name, store.folds.names)
            faults.add(f"{study.path}: folds", f"{name!r} is not in the store", fix)
    askers: dict[tuple[str, str, str], list[str]] = {}
    for asker, config in _asked(study):
        for problem in [*_missing(config, store), *_missing_there(study, config, store)]:
            askers.setdefault(problem, []).append(asker)
    for (path, what, how), names in askers.items():
        faults.add(f"{study.path}: {_place(study, names)}: {path}", what, how)
    faults.raise_if_any(ConfigError)


def _asked(study: Study) -> list[tuple[str, RunConfig]]:
    """Settings that between them name all that the study's trials read, each with the arm that has them."""
    if study.search is None:
        return [(arm.name, arm.config) for arm in study.arms]
    return [("", config) for config in study.search_extremes()]


def _missing(config: RunConfig, store: StoreContents) -> list[tuple[str, str, str]]:
    """(setting, problem, fix) for each thing that the settings name and the store lacks."""
    data = config.data
    missing = [
        ("data.signals", f"the signal {name!r} is not in the store", did_you_mean(name, store.signals))
        for name in data.signals
        if name not in store.signals
    ]
    if data.scalars != "all":
        missing += [
            ("data.scalars", f"the scalar {name!r} is not in the store", did_you_mean(name, store.scalar_names))
            for name in data.scalars
            if name not in store.scalar_names
        ]
    if data.window_bp > store.window_bp:
        fix = "shorten it, or build a store with a longer window"
        missing.append(("data.window_bp", f"{data.window_bp} bp, but the store has {store.window_bp} bp", fix))
    if data.sequence and not store.has_sequence:
        missing.append(
            ("data.sequence", "true, but the store has no DNA", "set it to false, or build with a FASTA file")
        )
    return missing


def _missing_there(study: Study, config: RunConfig, store: StoreContents) -> list[tuple[str, str, str]]:
    """The same for what a cell type lacks that other cell types of the store have, or an evaluation's settings name."""
    data, asked = config.data, config.evaluation
    missing = []
    if asked.cell_type and asked.cell_type not in store.cell_types:
        fix = did_you_mean(asked.cell_type, store.cell_types)
        missing.append(("evaluation.cell_type", f"{asked.cell_type!r} is not in the store", fix))
    missing += [
        ("evaluation.scalars", f"the scalar {name!r} is not in the store", did_you_mean(name, store.scalar_names))
        for name in asked.scalars
        if data.scalars == "all" and name not in store.scalar_names
    ]
    for cell_type in (asked.cell_type,) if asked.cell_type else study.cell_types:
        there = store.signals_of(cell_type) if cell_type in store.cell_types else data.signals
        missing += [
            ("data.signals", f"the signal {name!r} is not in the store for {cell_type}", did_you_mean(name, there))
            for name in data.signals
            if name in store.signals and name not in there
        ]
    return missing


def _place(study: Study, names: Sequence[str]) -> str:
    if study.search is not None:
        return "search.space" if any(d.path.startswith("data.") for d in study.search.space) else "baseline"
    if len(names) == len(study.arms):
        return "all arms"
    return f"arm{'s' if len(names) > 1 else ''} {', '.join(names)}"
