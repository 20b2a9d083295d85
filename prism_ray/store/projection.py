"""What a reader asks of a store, checked against what the store has, all faults together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from prism_ray.errors import FaultList, did_you_mean
from prism_ray.store.rings import SEQUENCE, rings_touched
from prism_ray.store.schema import StoreDescription

SCALARS = "scalars"
_N_NAMED = 5


@dataclass(frozen=True)
class Projection:
    """Part of a store: one cell type, some signals, a window, with or without DNA, some scalars.

    Attributes:
        scalars: `all`, or the names in the order wanted; may be empty.
    """

    cell_type: str
    window_bp: int
    signals: tuple[str, ...]
    sequence: bool = True
    scalars: Literal["all"] | tuple[str, ...] = "all"

    def scalar_names(self, description: StoreDescription) -> tuple[str, ...]:
        """Names of the scalars asked for, in order."""
        return description.scalar_names if self.scalars == "all" else tuple(self.scalars)

    def columns(self, description: StoreDescription) -> list[str]:
        """Columns that hold what is asked for, but for identifiers and label."""
        names = ([SEQUENCE] if self.sequence else []) + list(self.signals)
        rings = rings_touched(description.ring_bounds, self.window_bp)
        columns = [ring.column(name) for name in names for ring in rings]
        return columns + ([SCALARS] if self.scalar_names(description) else [])


def check_projection(projection: Projection, description: StoreDescription, where: str, faults: FaultList) -> None:
    """Add to `faults` everything asked for that the store has not."""
    if projection.cell_type not in description.cell_types:
        fix = did_you_mean(projection.cell_type, description.cell_types)
        faults.add(f"{where}: cell_type", f"{projection.cell_type!r} is not in the store", fix)
    _check_window(projection.window_bp, description.window_bp, f"{where}: window_bp", faults)
    _check_signals(projection, description, f"{where}: signals", faults)
    if projection.sequence and not description.has_sequence:
        faults.add(
            f"{where}: sequence",
            "DNA is asked for, and the store has none",
            "set sequence to false, or build the store from a catalog that names a FASTA file",
        )
    if projection.scalars != "all":
        _check_names(projection.scalars, description.scalar_names, f"{where}: scalars", faults)


def _check_window(asked: int, stored: int, where: str, faults: FaultList) -> None:
    if asked < 2 or asked % 2:
        faults.add(where, f"{asked} is not an even number of at least 2", f"use an even length of at most {stored}")
    elif asked > stored:
        faults.add(
            where,
            f"{asked} is longer than the stored window of {stored}",
            f"use at most {stored}, or build the store with --window-bp {asked}",
        )


def _check_signals(projection: Projection, description: StoreDescription, where: str, faults: FaultList) -> None:
    _check_names(projection.signals, description.signal_names, where, faults)
    cell = description.cell_types.get(projection.cell_type)
    for name in projection.signals:
        if cell is not None and name in description.signal_names and name not in cell.sources:
            faults.add(where, f"{projection.cell_type} has no {name!r}", did_you_mean(name, cell.sources))


def _check_names(asked: Sequence[str], known: Sequence[str], where: str, faults: FaultList) -> None:
    for index, name in enumerate(asked):
        if name not in known:
            faults.add(where, f"{name!r} is not in the store", did_you_mean(name, known))
        elif name in asked[:index]:
            faults.add(where, f"{name!r} is named twice", "keep one of the two")


def check_genes(genes: Sequence[str], known: Mapping[str, int], where: str, faults: FaultList) -> None:
    """Add to `faults` the gene ids asked for that a cell type has not, in one fault."""
    unknown = [gene for gene in genes if gene not in known]
    if not unknown:
        return
    listed = ", ".join(unknown[:_N_NAMED]) + (", ..." if len(unknown) > _N_NAMED else "")
    fix = "ids are those of the catalog's genes table"
    if len(unknown) == 1:
        fix = did_you_mean(unknown[0], known)
    faults.add(f"{where}: genes", f"{len(unknown)} of {len(genes)} ids are not in the store: {listed}", fix)
