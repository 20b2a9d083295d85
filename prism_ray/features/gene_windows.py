"""Values around TSSs that were cut before: HDF5, one file a chromosome, one data set a gene.

The data set `<chrom>_<tss>` holds one value a base, and its middle (index length / 2) is the TSS.
N genes, L positions in bp.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import did_you_mean
from prism_ray.features.hdf5 import DAMAGE
from prism_ray.features.source_parts import CHROM_PLACE
from prism_ray.features.transforms import transformed
from prism_ray.features.windows import Windows, half_window, refuse


class GeneWindowReader:
    """Windows of a signal that was cut around each TSS; opened where it is used, never pickled.

    Attributes:
        path: the files, with {chrom} where the chromosome's name stands.
        chrom_sizes: chromosome -> last TSS + 1 that its file holds: the chromosome is at least as long.
        backend: package that reads the files.
    """

    backend = "h5py"

    def __init__(self, path: Path, transform: str, chrom_sizes: Mapping[str, int] | None = None) -> None:
        """Open the file of every chromosome.

        Args:
            path: with {chrom} once in the file's name.
            transform: what is done to each value.
            chrom_sizes: lengths of the chromosomes; without them, windows are not cut at the end of one.

        Raises:
            CatalogError: there is no such file, or one is damaged or holds something else.
        """
        self.path = path
        self._transform = transform
        self._known_sizes = dict(chrom_sizes or {})
        self._files: dict[str, Any] = {}
        try:
            for chrom, file in _files(path):
                self._files[chrom] = _open(file)
            self._tss = {chrom: _tss_of(file, chrom) for chrom, file in self._files.items()}
        except BaseException:
            self.close()
            raise
        self.chrom_sizes = {chrom: int(tss.max()) + 1 for chrom, tss in self._tss.items()}

    def holds(self, chrom: str, tss: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which TSSs (N,) of a chromosome have a data set, (N,)."""
        return np.isin(tss, self._tss.get(chrom, np.empty(0, dtype=np.int64)))

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> Windows:
        """Values of [tss - L/2, tss + L/2) for TSSs (N,) of one chromosome; 0 where there is none.

        Raises:
            CatalogError: an unknown chromosome or TSS, a data set shorter than the window, damage, or a value
                that the transform cannot take.
        """
        if chrom not in self._files:
            refuse(str(self.path), f"has no chromosome {chrom!r}", did_you_mean(chrom, self.chrom_sizes))
        half = half_window(window_bp)
        values = np.zeros((len(tss), window_bp), dtype=np.float32)
        n_missing = 0
        for gene, position in enumerate(tss.tolist()):
            raw = self._middle(chrom, position, half)
            low = max(half - position, 0)
            high = min(half + self._known_sizes.get(chrom, position + half) - position, window_bp)
            inside = raw[low : max(high, low)]
            absent = np.isnan(inside)
            inside[absent] = 0.0
            n_missing += int(absent.sum())
            self._refuse_unusable(inside, chrom, position - half + low)
            values[gene, low : max(high, low)] = transformed(inside, self._transform)
        return Windows(values, n_missing)

    def _middle(self, chrom: str, tss: int, half: int) -> NDArray[np.float64]:
        """Raw values of [tss - half, tss + half), (2 half,)."""
        file = self._files[chrom]
        name = f"{chrom}_{tss}"
        where = f"{file.filename}: {chrom}:{tss}"
        if name not in file:
            refuse(where, f"there is no data set {name!r}", "give a file that holds every gene, or leave the gene out")
        data = file[name]
        if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "fiu":
            refuse(where, "is no row of numbers", "write one value a base")
        middle = len(data) // 2
        most = 2 * min(middle, len(data) - middle)
        if half > most // 2:
            refuse(
                where, f"holds {len(data)} values, the window is of {2 * half} bp", f"use window_bp of at most {most}"
            )
        try:
            values: NDArray[np.float64] = data[middle - half : middle + half].astype(np.float64)
        except DAMAGE as error:
            refuse(where, f"cannot be read ({error})", "the file is damaged; restore it")
        return values

    def _refuse_unusable(self, values: NDArray[np.float64], chrom: str, start: int) -> None:
        bad = ~np.isfinite(values)
        if self._transform != "none":
            bad |= values < 0
        if bad.any():
            first = int(np.argmax(bad))
            refuse(
                f"{self._files[chrom].filename}: {chrom}:{start + first}",
                f"the value {values[first]} cannot be used with transform {self._transform}",
                "use transform: none for values under 0, and a file without infinite ones",
            )

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files = {}

    def __enter__(self) -> GeneWindowReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _files(path: Path) -> list[tuple[str, Path]]:
    """Chromosome and file, for every file that exists."""
    before, _, after = path.name.partition(CHROM_PLACE)
    found = []
    for file in sorted(path.parent.iterdir()) if path.parent.is_dir() else []:
        chrom = file.name[len(before) : len(file.name) - len(after)]
        if chrom and file.name == f"{before}{chrom}{after}":
            found.append((chrom, file))
    if not found:
        refuse(str(path), "no such file for any chromosome", f"give one file a chromosome, named as {CHROM_PLACE} is")
    return found


def _open(file: Path) -> Any:
    try:
        return h5py.File(file, "r")
    except OSError as error:
        refuse(str(file), f"cannot be opened as HDF5 ({error})", "give an HDF5 file; fetch it again if it is cut short")


def _tss_of(file: Any, chrom: str) -> NDArray[np.int64]:
    """TSSs that a file has a data set for, (n,)."""
    start = f"{chrom}_"
    try:
        names = [name.removeprefix(start) for name in file if name.startswith(start)]
    except DAMAGE as error:
        refuse(file.filename, f"cannot be listed ({error})", "the file is damaged; restore it")
    tss = [int(name) for name in names if name.isdecimal()]
    if not tss:
        refuse(file.filename, f"holds no data set named {start}<tss>", "name them by chromosome and TSS")
    return np.array(tss, dtype=np.int64)
