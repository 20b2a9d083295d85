"""Tracks along the genome: the bigWig reader, and the door to every kind of signal.

N genes, L positions in bp.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pyBigWig
from numpy.typing import NDArray

from prism_ray.features.bedgraph import BedGraphReader
from prism_ray.features.contacts import ContactReader
from prism_ray.features.fast_readers import FastBigWig, fast_bigwig
from prism_ray.features.gene_windows import GeneWindowReader
from prism_ray.features.source_parts import SignalSource
from prism_ray.features.tracks import RegionMask, TrackReader
from prism_ray.features.windows import Windows, refuse

_BIGWIG_MARK = struct.pack("<I", 0x888FFC26)
_SUMMARY_POINTER = 44
_BIGBED_MARK = struct.pack("<I", 0x8789F2EB)


class SignalReader(Protocol):
    """Windows of one signal; opened where it is used, never pickled.

    Attributes:
        chrom_sizes: length of each chromosome of the source in bp.
        backend: package that reads the file.
    """

    chrom_sizes: dict[str, int]
    backend: str

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> Windows:
        """Values of [tss - L/2, tss + L/2) for TSSs (N,) of one chromosome."""

    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> SignalReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_signal(
    source: SignalSource,
    path: Path,
    chrom_sizes: Mapping[str, int] | None = None,
    blacklist: RegionMask | None = None,
) -> SignalReader:
    """Reader of a signal's file.

    Args:
        source: what the catalog says about it.
        path: its resolved path.
        chrom_sizes: lengths of the chromosomes, for the files that hold none: without them a bedGraph is taken
            to end with its last interval, and windows of a gene are not cut at the end of its chromosome.
        blacklist: regions in which a bigWig or a bedGraph has no values.

    Raises:
        CatalogError: the file is missing, damaged or of another kind.
    """
    if source.kind == "bigwig":
        return BigWigReader(path, source.transform, blacklist)
    if source.kind == "bedgraph":
        return BedGraphReader(path, source.transform, chrom_sizes, blacklist)
    # Contacts are not masked by base: a contact is of two bins, and a map masks its own bad bins.
    if source.kind == "gene_windows":
        return GeneWindowReader(path, source.transform, chrom_sizes)
    return ContactReader(path, source)


class BigWigReader(TrackReader):
    """Windows of a bigWig file.

    The file is opened and checked by pyBigWig; spans are read faster where `fast_readers` can, with equal values.
    """

    def __init__(self, path: Path, transform: str, blacklist: RegionMask | None = None) -> None:
        self._file: Any = _open_bigwig(path)
        sizes = {str(chrom): int(size) for chrom, size in self._file.chroms().items()}
        super().__init__(path, transform, sizes, blacklist)
        self.lowest = _lowest_value(path)
        self._fast: FastBigWig | None = fast_bigwig(path)
        self.backend = "pyBigWig" if self._fast is None else self._fast.backend

    def fetch(self, chrom: str, start: int, end: int) -> NDArray[np.float32]:
        """Raw values of [start, end), (end - start,); NaN where there is none."""
        if start == end:
            return np.empty(0, dtype=np.float32)
        quick = None if self._fast is None else self._fast.values(chrom, start, end)
        if quick is not None:
            return quick
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
        if self._fast is not None:
            self._fast.close()


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
        chroms = file.chroms()
    except RuntimeError as error:
        refuse(str(path), f"cannot be opened as a bigWig ({error})", "fetch the file again")
    if not chroms:
        file.close()
        refuse(str(path), "holds no chromosome", "give a bigWig with values")
    return file
