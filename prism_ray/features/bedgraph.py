"""Tracks in bedGraph text files.

N genes, L positions in bp.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.features.tracks import RegionMask, TrackReader
from prism_ray.features.windows import refuse


class BedGraphReader(TrackReader):
    """Windows of a bedGraph text file, which is held in memory: for small tracks."""

    backend = "text"

    def __init__(
        self,
        path: Path,
        transform: str,
        chrom_sizes: Mapping[str, int] | None = None,
        blacklist: RegionMask | None = None,
    ) -> None:
        table = _read_bedgraph(path)
        self._intervals = {str(chrom): part for chrom, part in table.groupby("chrom", sort=False)}
        ends = {chrom: int(part["end"].max()) for chrom, part in self._intervals.items()}
        known = chrom_sizes or {}
        super().__init__(path, transform, {chrom: known.get(chrom, end) for chrom, end in ends.items()}, blacklist)
        self.lowest = float(table["value"].min())

    def fetch(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        """Raw values of [start, end), (end - start,); NaN where there is none."""
        values = np.full(end - start, np.nan, dtype=np.float32)
        part = self._intervals[chrom]
        lows, highs = part["start"].to_numpy(), part["end"].to_numpy()
        first, last = np.searchsorted(highs, start, side="right"), np.searchsorted(lows, end, side="left")
        numbers = part["value"].to_numpy()
        for row in range(int(first), int(last)):
            values[max(lows[row] - start, 0) : max(highs[row] - start, 0)] = numbers[row]
        return values

    def close(self) -> None:
        """Let go of the intervals."""
        self._intervals = {}


def _read_bedgraph(path: Path) -> pd.DataFrame:
    """Intervals, sorted by chromosome and start, without overlaps: chrom, start, end (int64), value (float64)."""
    rows, bad = [], []
    fix = "write lines of chrom, start, end, value"
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip() or line.startswith(("#", "track", "browser")):
                    continue
                row = _interval(line)
                if row is None:
                    bad.append(f"line {number} {line.strip()!r}")
                else:
                    rows.append(row)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        refuse(str(path), f"cannot be read as bedGraph ({error})", fix)
    if bad:
        refuse(str(path), f"{len(bad)} lines are not intervals with a value, first {bad[0]}", fix)
    if not rows:
        refuse(str(path), "holds no interval", fix)
    table = pd.DataFrame(rows, columns=["chrom", "start", "end", "value"])
    table = table.sort_values(["chrom", "start"], kind="stable").reset_index(drop=True)
    overlap = table["chrom"].eq(table["chrom"].shift()) & (table["start"] < table["end"].shift())
    if overlap.any():
        first = table[overlap].iloc[0]
        where = f"{first['chrom']}:{first['start']}"
        refuse(str(path), f"{int(overlap.sum())} intervals overlap, first at {where}", "keep one value a base")
    return table


def _interval(line: str) -> tuple[str, int, int, float] | None:
    """One line of bedGraph; None where it is not an interval with a finite value."""
    try:
        chrom, start, end, value = line.split()
        row = (chrom, int(start), int(end), float(value))
    except ValueError:
        return None
    return row if 0 <= row[1] < row[2] and math.isfinite(row[3]) else None
