"""Windows of a track with one value a base, whatever file holds it.

N genes, L positions in bp.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import did_you_mean
from prism_ray.features.transforms import transformed
from prism_ray.features.windows import Windows, cut, group_spans, refuse


class RegionMask(Protocol):
    """Regions in which a track is not to be believed."""

    def mask(self, chrom: str, start: int, end: int) -> NDArray[np.bool_]:
        """Which bases of [start, end) lie in one of the regions, (end - start,)."""


class TrackReader(ABC):
    """Windows of a track with one value a base; a base without a value reads as 0.

    Attributes:
        path: the file.
        transform: what is done to each value.
        chrom_sizes: length of each chromosome in bp.
        blacklist: regions whose bases have no value; None for none.
        lowest: least value of the file, as far as it is known before all are read.
        backend: package that reads the file.
    """

    lowest: float = 0.0
    backend: str

    def __init__(
        self, path: Path, transform: str, chrom_sizes: dict[str, int], blacklist: RegionMask | None = None
    ) -> None:
        self.path = path
        self.transform = transform
        self.chrom_sizes = chrom_sizes
        self.blacklist = blacklist

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
            if self.blacklist is not None:
                # Before anything else: an artefact of any size is no value.
                raw[self.blacklist.mask(chrom, span.start, span.end)] = np.nan
            absent = np.isnan(raw)
            np.copyto(raw, 0.0, where=absent)
            self._refuse_unusable(raw, chrom, span.start)
            cut(transformed(raw, self.transform), span, tss, window_bp, values)
            for middle in tss[span.index].tolist():
                low, high = max(middle - half, span.start), min(middle + half, span.end)
                n_missing += int(np.count_nonzero(absent[low - span.start : max(high, low) - span.start]))
        return Windows(values, n_missing)

    def _refuse_unusable(self, raw: NDArray[np.float32], chrom: str, start: int) -> None:
        # The least and the greatest value tell whether it is worth looking at each.
        low, high = (raw.min(), raw.max()) if len(raw) else (0.0, 0.0)
        if np.isfinite(low) and np.isfinite(high) and (low >= 0 or self.transform == "none"):
            return
        bad = ~np.isfinite(raw)
        if self.transform != "none":
            bad |= raw < 0
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
