"""Regions of the genome in which tracks are artefacts, from a BED file.

Coordinates are 0-based and half-open.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import FaultList
from prism_ray.features.naming import naming_mismatch
from prism_ray.features.windows import refuse

_FIX = "write lines of chrom, start, end between tabs, with 0 <= start < end"
_COMMENTS = ("#", "track", "browser")


@dataclass(frozen=True)
class Blacklisted:
    """Blacklisted regions, merged where they overlap or touch.

    Attributes:
        regions: by chromosome, starts and ends, (n,) int64 each, both rising.
    """

    regions: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]

    @property
    def chroms(self) -> tuple[str, ...]:
        """Chromosomes with a region, in the order of the file."""
        return tuple(self.regions)

    def mask(self, chrom: str, start: int, end: int) -> NDArray[np.bool_]:
        """Which bases of [start, end) are blacklisted, (end - start,)."""
        masked = np.zeros(end - start, dtype=np.bool_)
        if chrom in self.regions:
            starts, ends = self.regions[chrom]
            first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(starts, end, side="left")
            for low, high in zip(starts[first:last] - start, ends[first:last] - start, strict=True):
                masked[max(low, 0) : high] = True
        return masked


def read_blacklist(path: Path) -> Blacklisted:
    """Regions of a BED file, plain or .gz; of its columns the first three are read.

    Raises:
        CatalogError: the file is missing, is not BED, or holds no region.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    bad = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip() or line.startswith(_COMMENTS):
                    continue
                region = _region(line)
                if region is None:
                    bad.append(f"line {number} {line.strip()!r}")
                else:
                    found.setdefault(region[0], []).append(region[1:])
    except FileNotFoundError:
        refuse(str(path), "no such file", "give the path of a BED file, from where the catalog lies")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        refuse(str(path), f"cannot be read as BED ({error})", _FIX)
    if bad:
        refuse(str(path), f"{len(bad)} lines are not regions, first {bad[0]}", _FIX)
    if not found:
        refuse(str(path), "holds no region", f"{_FIX}, or leave `blacklist` out")
    return Blacklisted({chrom: _merged(np.array(regions, dtype=np.int64)) for chrom, regions in found.items()})


def check_blacklist(blacklist: Blacklisted, chroms: dict[str, int], where: str, faults: FaultList) -> None:
    """Add a fault where a blacklist is of other chromosomes than the data are.

    Args:
        blacklist: the regions.
        chroms: chromosomes of the genome; nothing is checked where none is known.
        where: place in the catalog, and name of the file.
        faults: takes the fault.
    """
    unknown = [chrom for chrom in blacklist.chroms if chrom not in chroms]
    if not unknown or not chroms:
        return
    if mismatch := naming_mismatch(unknown, chroms):
        problem = f"chromosomes are named {mismatch[0]} here and {mismatch[1]} in the genome"
        faults.add(where, problem, "name them alike")
    elif len(unknown) == len(blacklist.chroms):
        faults.add(
            where, f"none of its chromosomes is in the genome, {unknown[0]} for one", "give that of the assembly"
        )


def _region(line: str) -> tuple[str, int, int] | None:
    """Chromosome, start and end of a line of BED; None where it has none."""
    fields = line.split()
    if len(fields) < 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        return None
    start, end = int(fields[1]), int(fields[2])
    return (fields[0], start, end) if start < end else None


def _merged(regions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of regions (n, 2) without overlaps, in order."""
    ordered = regions[np.argsort(regions[:, 0], kind="stable")]
    reach = np.maximum.accumulate(ordered[:, 1])
    opens = np.concatenate([[True], ordered[1:, 0] > reach[:-1]])
    closes = np.concatenate([opens[1:], [True]])
    return ordered[opens, 0], reach[closes]
