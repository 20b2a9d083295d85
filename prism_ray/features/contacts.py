"""Hi-C contacts of a TSS with the bases around it, from cooler files.

The value of a base is the contact of its bin with the TSS's bin. N genes, L positions in bp.

Source: arXiv 2602.21550 and arXiv 2502.13991; the power law is the one of the ABC model.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cooler
import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import did_you_mean
from prism_ray.features.contact_pixels import ContactPixels, margin_weights
from prism_ray.features.hdf5 import DAMAGE
from prism_ray.features.source_parts import SignalSource
from prism_ray.features.transforms import transformed
from prism_ray.features.windows import Windows, group_spans, half_window, refuse

POWER_LAW_EXPONENT = 0.87
POWER_LAW_SCALE = -4.80 + 11.63 * POWER_LAW_EXPONENT
POWER_LAW_FLAT_BELOW_BP = 5000
POWER_LAW_CAP_BP = 1_000_000
QUALITY_HALF_BP = 500
QUALITY_LEAST_CONTACT = 0.01
# A span's square of the map is fetched as a whole: this bounds its side.
MAX_SPAN_BINS = 1000
DIVISIVE_WEIGHTS = ("KR", "VC", "VC_SQRT")
"""Columns of weights by which contacts are divided, as hic2cool writes them; all others are factors."""


def power_law(distance_bp: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Contact expected at a distance, exp(s - g ln(max(d, 5000) + 1)); same shape, float64."""
    distance = np.maximum(np.asarray(distance_bp, dtype=np.float64), POWER_LAW_FLAT_BELOW_BP)
    return np.exp(POWER_LAW_SCALE - POWER_LAW_EXPONENT * np.log(distance + 1.0))


def pseudocount(distance_bp: NDArray[np.int64]) -> NDArray[np.float64]:
    """min(pl(d), pl(1 Mb)), pl being the power law; same shape, float64."""
    return np.minimum(power_law(distance_bp), power_law(POWER_LAW_CAP_BP))


@dataclass(frozen=True)
class _Chromosome:
    """What is kept of a chromosome between spans.

    Attributes:
        pixels: its raw contacts.
        weight: (n_bins,) factor of each bin, NaN where masked; None for raw contacts.
    """

    pixels: ContactPixels
    weight: NDArray[np.float64] | None


class ContactReader:
    """Windows of a contact map; opened where it is used, never pickled.

    Attributes:
        path: the file.
        chrom_sizes: length of each chromosome in bp.
        bin_size_bp: size of a bin of the resolution that is read.
        backend: package that opens the file.
    """

    backend = "cooler"

    def __init__(self, path: Path, source: SignalSource) -> None:
        self.path = path
        self._source = source
        self._map: Any = _open_map(path, source)
        self.chrom_sizes = {str(chrom): int(size) for chrom, size in self._map.chromsizes.items()}
        self.bin_size_bp = int(self._map.binsize)
        self._opened = ExitStack()
        self._group: Any = None
        self._chroms: dict[str, _Chromosome] = {}
        self._law = np.empty(0, dtype=np.float64)

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> Windows:
        """Contacts of the bases of [tss - L/2, tss + L/2) with the TSS; 0 beyond the chromosome.

        A contact that the map does not hold is 0, and missing where a bin of the pair was masked by
        normalisation. With `quality`, a gene whose contacts within 500 bp of the TSS sum (over bases) to
        under 0.01 has no contacts at all, and all its bases count as missing. The pseudocount is added
        after that, then the transform is taken.

        Raises:
            CatalogError: an unknown chromosome, a TSS outside it, a damaged file, or a value that the
                transform cannot take.
        """
        if chrom not in self.chrom_sizes:
            refuse(str(self.path), f"has no chromosome {chrom!r}", did_you_mean(chrom, self.chrom_sizes))
        size, width = self.chrom_sizes[chrom], self.bin_size_bp
        outside = tss[(tss < 0) | (tss >= size)]
        if len(outside):
            refuse(f"{self.path}: {chrom}:{outside[0]}", f"the TSS lies outside {chrom}, of {size} bp", "mend the gene")
        # The quality rule looks at the same bases whatever the window.
        reach = max(half_window(window_bp), QUALITY_HALF_BP if self._source.quality else 0)
        values = np.zeros((len(tss), window_bp), dtype=np.float32)
        n_missing = 0
        longest = max(MAX_SPAN_BINS * width, 2 * reach)
        for span in group_spans(tss, 2 * reach, size, max_gap_bp=4 * width, max_span_bp=longest):
            first_bin, last_bin = span.start // width, -(-span.end // width)
            rows = tss[span.index] // width - first_bin
            contacts, masked = self._rows(chrom, first_bin, last_bin, rows, -(-reach // width))
            for gene, row, along in zip(span.index, rows, contacts, strict=True):
                absent = masked | masked[row]
                n_missing += self._write(along, absent, first_bin, int(tss[gene]), size, values[gene])
        return Windows(values, n_missing)

    def _rows(
        self, chrom: str, first_bin: int, last_bin: int, rows: NDArray[np.int64], reach: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Contacts of some bins with those of [first_bin, last_bin), (N, n), and which of these are masked, (n,).

        `rows` (N,) counts from `first_bin`. Contacts over more than `reach` bins may be given as 0.
        """
        try:
            opened = self._chromosome(chrom)
            contacts = opened.pixels.band(first_bin, last_bin, reach)[rows]
        except DAMAGE as error:
            where = f"{self.path}: {chrom}:{first_bin * self.bin_size_bp}-{last_bin * self.bin_size_bp}"
            refuse(where, f"cannot be read ({error})", "the file is damaged; restore it")
        masked = np.zeros(last_bin - first_bin, dtype=np.bool_)
        if opened.weight is not None:
            weight = opened.weight[first_bin:last_bin]
            masked = np.isnan(weight)
            # The weights of both bins are multiplied first, as cooler does it: the same bits.
            contacts = contacts * (weight[rows][:, None] * weight)
        contacts[np.isnan(contacts)] = 0.0
        return contacts, masked

    def _chromosome(self, chrom: str) -> _Chromosome:
        """Pixels and weights of a chromosome, looked up or computed once."""
        if self._group is None:
            self._group = self._opened.enter_context(self._map.open("r"))
        if chrom not in self._chroms:
            low, high = (int(bound) for bound in self._map.extent(chrom))
            symmetric = self._map.storage_mode == "symmetric-upper"
            pixels = ContactPixels(self._group, low, high, symmetric=symmetric)
            self._chroms[chrom] = _Chromosome(pixels, self._weight(pixels, low, high))
        return self._chroms[chrom]

    def _weight(self, pixels: ContactPixels, low: int, high: int) -> NDArray[np.float64] | None:
        """Weights of the bins of a chromosome, (n,), NaN where masked; None for raw contacts."""
        if self._source.marginal != "none":
            return margin_weights(pixels, self._source.marginal)
        if not self._source.balance:
            return None
        name = _weight_name(self._source)
        weight: NDArray[np.float64] = self._group["bins"][name][low:high].astype(np.float64)
        if name in DIVISIVE_WEIGHTS:
            # A divisor of 0 is of a bin without contacts.
            weight = 1.0 / np.where(weight == 0, np.nan, weight)
        return weight

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
        if self._source.quality:
            near = np.arange(max(tss - QUALITY_HALF_BP, 0), min(tss + QUALITY_HALF_BP, size)) // width - first_bin
            if contacts[near].sum() < QUALITY_LEAST_CONTACT:
                contacts, absent = np.zeros_like(contacts), np.ones_like(absent)
        bins = np.arange(low // width, -(-high // width))
        # Bases of the window in each of these bins.
        n_bases = np.minimum((bins + 1) * width, high) - np.maximum(bins * width, low)
        values, first, each = contacts[bins - first_bin], int(n_bases[0]), width
        where = slice(low - (tss - half), high - (tss - half))
        if self._source.pseudocount == "powerlaw" and half <= POWER_LAW_CAP_BP:
            # The same at every base, since the law only falls: what is computed of a bin holds for all of its bases.
            values = values + pseudocount(np.zeros(1, dtype=np.int64))
        elif self._source.pseudocount == "powerlaw":
            values, first, each = np.repeat(values, n_bases) + self._expected(half)[where], 1, 1
        if not np.isfinite(values).all() or (self._source.transform != "none" and (values < 0).any()):
            refuse(f"{self.path}: TSS {tss}", "has a contact that is infinite or under 0", "balance the map again")
        _spread(transformed(values, self._source.transform), first, each, out[where])
        return int(n_bases[absent[bins - first_bin]].sum())

    def _expected(self, half: int) -> NDArray[np.float64]:
        """Pseudocount of each base of a window, (2 half,): the same for every gene."""
        if len(self._law) != 2 * half:
            self._law = pseudocount(np.abs(np.arange(-half, half)))
        return self._law

    def close(self) -> None:
        """Close the file."""
        self._opened.close()
        self._group = None
        self._chroms = {}

    def __enter__(self) -> ContactReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _spread(values: NDArray[np.float64], first: int, each: int, out: NDArray[np.float32]) -> None:
    """Write each value to its positions of `out`: `first` of the first, `each` of the others, the last to the end."""
    n_whole = (len(out) - first) // each
    stop = first + n_whole * each
    out[:first] = values[0]
    # One assignment of blocks takes half of what np.repeat takes.
    out[first:stop].reshape(n_whole, each)[:] = values[1 : 1 + n_whole, None]
    out[stop:] = values[-1]


def _open_map(path: Path, source: SignalSource) -> Any:
    """The cooler of the resolution asked for, with the weights asked for."""
    if not path.is_file():
        refuse(str(path), "no such file", "give a .cool or .mcool file")
    try:
        groups = cooler.fileops.list_coolers(str(path))
    except DAMAGE as error:
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
    except DAMAGE as error:
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
    name = _weight_name(source)
    if name not in columns:
        weights = sorted(columns - {"chrom", "start", "end"})
        known = f"name one of its columns {', '.join(weights)}, " if weights else ""
        refuse(
            str(path),
            f"has no balancing weights {name!r}",
            f"{known}balance the map with `cooler balance`, or set balance: false",
        )


def _weight_name(source: SignalSource) -> str:
    return source.balance if isinstance(source.balance, str) else "weight"
