"""Hi-C contacts of a TSS with the bases around it, from cooler files.

The value of a base is the contact of its bin with the TSS's bin. N genes, L positions in bp.

Source: arXiv 2602.21550 and arXiv 2502.13991; the power law is the one of the ABC model.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import cooler
import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import did_you_mean
from prism_ray.features.sources import SignalSource
from prism_ray.features.transforms import transformed
from prism_ray.features.windows import Windows, group_spans, half_window, refuse

POWER_LAW_EXPONENT = 0.87
POWER_LAW_SCALE = -4.80 + 11.63 * POWER_LAW_EXPONENT
POWER_LAW_FLAT_BELOW_BP = 5000
POWER_LAW_CAP_BP = 1_000_000
QUALITY_HALF_BP = 500
QUALITY_LEAST_CONTACT = 0.01
# A span's square of the map is fetched as a whole: this bounds its side.
MAX_SPAN_BINS = 600


def power_law(distance_bp: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Contact expected at a distance, exp(s - g ln(max(d, 5000) + 1)); same shape, float64."""
    distance = np.maximum(np.asarray(distance_bp, dtype=np.float64), POWER_LAW_FLAT_BELOW_BP)
    return np.exp(POWER_LAW_SCALE - POWER_LAW_EXPONENT * np.log(distance + 1.0))


def pseudocount(distance_bp: NDArray[np.int64]) -> NDArray[np.float64]:
    """min(pl(d), pl(1 Mb)), pl being the power law; same shape, float64."""
    return np.minimum(power_law(distance_bp), power_law(POWER_LAW_CAP_BP))


class ContactReader:
    """Windows of a contact map; opened where it is used, never pickled.

    Attributes:
        path: the file.
        chrom_sizes: length of each chromosome in bp.
        bin_size_bp: size of a bin of the resolution that is read.
    """

    def __init__(self, path: Path, source: SignalSource) -> None:
        self.path = path
        self._source = source
        self._map: Any = _open_map(path, source)
        self.chrom_sizes = {str(chrom): int(size) for chrom, size in self._map.chromsizes.items()}
        self.bin_size_bp = int(self._map.binsize)
        self._bins: Any = self._map.bins()

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> Windows:
        """Contacts of the bases of [tss - L/2, tss + L/2) with the TSS; 0 beyond the chromosome.

        A contact that the map does not hold is 0, and missing where a bin of the pair was masked by
        balancing. With `quality`, a gene whose contacts within 500 bp of the TSS sum (over bases) to
        under 0.01 has no contacts at all, and all its bases count as missing. The pseudocount is added
        after that, then the transform is taken.

        Raises:
            CatalogError: an unknown chromosome, a damaged file, or a value that the transform cannot take.
        """
        if chrom not in self.chrom_sizes:
            refuse(str(self.path), f"has no chromosome {chrom!r}", did_you_mean(chrom, self.chrom_sizes))
        size, width = self.chrom_sizes[chrom], self.bin_size_bp
        # The quality rule looks at the same bases whatever the window.
        reach = max(half_window(window_bp), QUALITY_HALF_BP if self._source.quality else 0)
        values = np.zeros((len(tss), window_bp), dtype=np.float32)
        n_missing = 0
        longest = max(MAX_SPAN_BINS * width, 2 * reach)
        for span in group_spans(tss, 2 * reach, size, max_gap_bp=4 * width, max_span_bp=longest):
            first_bin = span.start // width
            last_bin = -(-span.end // width)
            matrix, masked = self._square(chrom, first_bin, min(last_bin * width, size))
            for gene in span.index:
                row = int(tss[gene]) // width - first_bin
                absent = masked | masked[row]
                n_missing += self._write(matrix[row], absent, first_bin, int(tss[gene]), size, values[gene])
        return Windows(values, n_missing)

    def _square(self, chrom: str, first_bin: int, end: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Contacts among the bins from `first_bin` to base `end`, (n, n), and which bins are masked, (n,)."""
        region = (chrom, first_bin * self.bin_size_bp, end)
        try:
            matrix = self._map.matrix(balance=self._source.balance).fetch(region).astype(np.float64)
            masked = np.zeros(len(matrix), dtype=np.bool_)
            if self._source.balance:
                name = "weight" if self._source.balance is True else self._source.balance
                masked = self._bins.fetch(region)[name].isna().to_numpy(dtype=np.bool_)
        except (OSError, KeyError, ValueError) as error:
            refuse(
                f"{self.path}: {chrom}:{region[1]}-{end}",
                f"cannot be read ({error})",
                "the file is damaged; restore it",
            )
        return np.nan_to_num(matrix, nan=0.0), masked

    def _write(
        self,
        contacts: NDArray[np.float64],
        absent: NDArray[np.bool_],
        first_bin: int,
        tss: int,
        size: int,
        out: NDArray[np.float32],
    ) -> int:
        """Write one gene's window; returns how many of its bases have no value."""
        half = len(out) // 2
        width = self.bin_size_bp
        low, high = max(tss - half, 0), min(tss + half, size)
        position = np.arange(low, high)
        bins = position // width - first_bin
        if self._source.quality:
            near = np.arange(max(tss - QUALITY_HALF_BP, 0), min(tss + QUALITY_HALF_BP, size)) // width - first_bin
            if contacts[near].sum() < QUALITY_LEAST_CONTACT:
                contacts, absent = np.zeros_like(contacts), np.ones_like(absent)
        along = contacts[bins]
        if self._source.pseudocount == "powerlaw":
            along = along + pseudocount(np.abs(position - tss))
        if not np.isfinite(along).all() or (self._source.transform != "none" and (along < 0).any()):
            refuse(f"{self.path}: TSS {tss}", "has a contact that is infinite or under 0", "balance the map again")
        out[low - (tss - half) : high - (tss - half)] = transformed(along, self._source.transform)
        return int(absent[bins].sum())

    def close(self) -> None:
        """Nothing stays open between fetches; here so that every reader is closed alike."""

    def __enter__(self) -> ContactReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_map(path: Path, source: SignalSource) -> Any:
    """The cooler of the resolution asked for, with the weights asked for."""
    if not path.is_file():
        refuse(str(path), "no such file", "give a .cool or .mcool file")
    try:
        groups = cooler.fileops.list_coolers(str(path))
    except (OSError, KeyError) as error:
        refuse(str(path), f"is not a cooler file, or is cut short ({error})", "give a .cool or .mcool file")
    if not groups:
        refuse(str(path), "holds no contact map", "give a .cool or .mcool file")
    group = groups[0]
    if groups != ["/"]:
        found = sorted(int(name.rsplit("/", 1)[1]) for name in groups if name.startswith("/resolutions/"))
        listed = ", ".join(map(str, found))
        if source.resolution is None:
            refuse(str(path), "holds several resolutions and none is asked for", f"set resolution to one of {listed}")
        if source.resolution not in found:
            refuse(str(path), f"has no resolution {source.resolution}", f"set resolution to one of {listed}")
        group = f"/resolutions/{source.resolution}"
    try:
        opened = cooler.Cooler(f"{path}::{group}")
        columns = set(map(str, opened.bins().columns))
        width = opened.binsize
    except (OSError, KeyError, ValueError) as error:
        refuse(str(path), f"cannot be opened ({error})", "fetch the file again")
    _require_resolution(path, source, width)
    _require_weights(path, source, columns)
    return opened


def _require_resolution(path: Path, source: SignalSource, width: int | None) -> None:
    if width is None:
        refuse(str(path), "has bins of several sizes", "give a map with bins of one size")
    if source.resolution is not None and source.resolution != width:
        refuse(str(path), f"has no resolution {source.resolution}", f"set resolution to {width}, or leave it out")


def _require_weights(path: Path, source: SignalSource, columns: set[str]) -> None:
    if not source.balance:
        return
    name = "weight" if source.balance is True else source.balance
    if name not in columns:
        weights = sorted(columns - {"chrom", "start", "end"})
        known = f"name one of its columns {', '.join(weights)}, " if weights else ""
        refuse(
            str(path),
            f"has no balancing weights {name!r}",
            f"{known}balance the map with `cooler balance`, or set balance: false",
        )
