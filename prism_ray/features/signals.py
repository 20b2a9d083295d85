"""Tracks along the genome: bigWig and bedGraph readers, and the door to every kind of signal.

N genes, L positions in bp.
"""

from __future__ import annotations

import gzip
import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyBigWig
from numpy.typing import NDArray

from prism_ray.errors import did_you_mean
from prism_ray.features.contacts import ContactReader
from prism_ray.features.sources import SignalSource
from prism_ray.features.transforms import transformed
from prism_ray.features.windows import Windows, cut, group_spans, refuse

_BIGWIG_MARK = struct.pack("<I", 0x888FFC26)
_SUMMARY_POINTER = 44
_BIGBED_MARK = struct.pack("<I", 0x8789F2EB)


class SignalReader(Protocol):
    """Windows of one signal; opened where it is used, never pickled.

    Attributes:
        chrom_sizes: length of each chromosome of the source in bp.
    """

    chrom_sizes: dict[str, int]

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> Windows:
        """Values of [tss - L/2, tss + L/2) for TSSs (N,) of one chromosome."""

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> SignalReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_signal(source: SignalSource, path: Path, chrom_sizes: Mapping[str, int] | None = None) -> SignalReader:
    """Reader of a signal's file.

    Args:
        source: what the catalog says about it.
        path: its resolved path.
        chrom_sizes: lengths of the chromosomes. A bedGraph holds none: without them it is taken to end
            with its last interval, which matters only to the count of missing bases.

    Raises:
        CatalogError: the file is missing, damaged or of another kind.
    """
    if source.kind == "bigwig":
        return BigWigReader(path, source.transform)
    if source.kind == "bedgraph":
        return BedGraphReader(path, source.transform, chrom_sizes)
    return ContactReader(path, source)


class TrackReader(ABC):
    """Windows of a track with one value a base; a base without a value reads as 0.

    Attributes:
        path: the file.
        transform: what is done to each value.
        chrom_sizes: length of each chromosome in bp.
        lowest: least value of the file, as far as it is known before all are read.
    """

    lowest: float = 0.0

    def __init__(self, path: Path, transform: str, chrom_sizes: dict[str, int]) -> None:
        self.path = path
        self.transform = transform
        self.chrom_sizes = chrom_sizes

    @abstractmethod
    def fetch(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        """Raw values of [start, end) inside the chromosome, (end - start,); NaN where there is none."""

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> Windows:
        """Values of [tss - L/2, tss + L/2), one fetch for genes that lie near each other.

        Raises:
            CatalogError: an unknown chromosome, a damaged file, an infinite value, or one under 0 where
                the transform is a logarithm.
        """
        if chrom not in self.chrom_sizes:
            refuse(str(self.path), f"has no chromosome {chrom!r}", did_you_mean(chrom, self.chrom_sizes))
        half = window_bp // 2
        values = np.zeros((len(tss), window_bp), dtype=np.float32)
        n_missing = 0
        for span in group_spans(tss, window_bp, self.chrom_sizes[chrom]):
            raw = self.fetch(chrom, span.start, span.end)
            absent = np.isnan(raw)
            raw[absent] = 0.0
            self._refuse_unusable(raw, chrom, span.start)
            cut(transformed(raw, self.transform), span, tss, window_bp, values)
            before = np.concatenate([[0], np.cumsum(absent)])
            low = np.clip(tss[span.index] - half, span.start, span.end) - span.start
            high = np.clip(tss[span.index] + half, span.start, span.end) - span.start
            n_missing += int((before[high] - before[low]).sum())
        return Windows(values, n_missing)

    def _refuse_unusable(self, raw: NDArray[np.float32], chrom: str, start: int) -> None:
        bad = ~np.isfinite(raw)
        if self.transform != "none":
            bad |= raw < 0
        if bad.any():
            first = int(np.argmax(bad))
            refuse(
                f"{self.path}: {chrom}:{start + first}",
                f"the value {raw[first]} cannot be used with transform {self.transform}",
                "use transform: none for a track with values under 0, and a file without infinite ones",
            )

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> TrackReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BigWigReader(TrackReader):
    """Windows of a bigWig file."""

    def __init__(self, path: Path, transform: str) -> None:
        self._file: Any = _open_bigwig(path)
        super().__init__(path, transform, {str(chrom): int(size) for chrom, size in self._file.chroms().items()})
        self.lowest = _lowest_value(path)

    def fetch(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        """Raw values of [start, end), (end - start,); NaN where there is none."""
        if start == end:
            return np.empty(0, dtype=np.float32)
        try:
            values: NDArray[np.float32] = self._file.values(chrom, start, end, numpy=True)
        except RuntimeError as error:
            refuse(
                f"{self.path}: {chrom}:{start}-{end}", f"cannot be read ({error})", "the file is damaged; restore it"
            )
        return values

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lowest_value(path: Path) -> float:
    """Least value of a bigWig as its summary says; 0 where it has no summary.

    Read here because pyBigWig rounds it, and crashes the process where it is NaN.

    Source: UCSC bigWig format, header and total summary.
    """
    with path.open("rb") as stream:
        stream.seek(_SUMMARY_POINTER)
        (offset,) = struct.unpack("<Q", stream.read(8))
        if not offset:
            return 0.0
        stream.seek(offset + 8)
        block = stream.read(8)
    return float(struct.unpack("<d", block)[0]) if len(block) == 8 else 0.0


def _open_bigwig(path: Path) -> Any:
    """An open bigWig whose both ends are as the format says.

    Source: UCSC bigWig format: the file begins and ends with the same four bytes.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - 4, 0))
            tail = stream.read(4)
    except OSError as error:
        refuse(str(path), f"cannot be read ({error.strerror})", "give a bigWig file")
    if head == _BIGBED_MARK:
        refuse(str(path), "is a bigBed, not a bigWig", "give a file with one value a base")
    if head != _BIGWIG_MARK:
        refuse(str(path), "is not a bigWig", "give a bigWig file, or state another kind")
    if tail != _BIGWIG_MARK:
        refuse(str(path), "is cut short: its last four bytes are not those of a bigWig", "fetch the file again")
    try:
        file = pyBigWig.open(str(path))
    except RuntimeError as error:
        refuse(str(path), f"cannot be opened as a bigWig ({error})", "fetch the file again")
    if not file.chroms():
        file.close()
        refuse(str(path), "holds no chromosome", "give a bigWig with values")
    return file


class BedGraphReader(TrackReader):
    """Windows of a bedGraph text file, which is held in memory: for small tracks."""

    def __init__(self, path: Path, transform: str, chrom_sizes: Mapping[str, int] | None) -> None:
        table = _read_bedgraph(path)
        self._intervals = {str(chrom): part for chrom, part in table.groupby("chrom", sort=False)}
        ends = {chrom: int(part["end"].max()) for chrom, part in self._intervals.items()}
        known = chrom_sizes or {}
        super().__init__(path, transform, {chrom: known.get(chrom, end) for chrom, end in ends.items()})
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
