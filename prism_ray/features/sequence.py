"""DNA around a TSS, from a FASTA file.

N genes, L positions in bp. Bases are codes, A C G T N = 0 1 2 3 4; any other letter reads as N.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import pyfaidx
from numpy.typing import NDArray

from prism_ray.errors import MissingDependencyError, did_you_mean
from prism_ray.features.windows import read_windows, refuse

N_CODE = 4
_CODES = np.full(256, N_CODE, dtype=np.uint8)
for _code, _letter in enumerate("ACGT"):
    _CODES[[ord(_letter), ord(_letter.lower())]] = _code
_BGZIP_SUFFIXES = (".gz", ".bgz")
_BGZIP_MARK = b"BC"
_INDEX_LOCK = threading.Lock()
# What pyfaidx and pysam raise for files that are damaged or not FASTA.
_UNREADABLE = (OSError, ValueError, pyfaidx.FastaIndexingError, pyfaidx.FetchError)


def one_hot(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One-hot DNA, (..., L) uint8 -> (..., L, 4) float32 in the order A, C, G, T; N is all zeros."""
    table = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), dtype=np.float32)])
    return table[codes]


def reverse_complement(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The other strand, read in its own direction, (..., L) uint8 -> (..., L) uint8; N stays N."""
    complement = np.array([3, 2, 1, 0, N_CODE], dtype=np.uint8)
    return complement[codes[..., ::-1]]


def encode(letters: bytes) -> NDArray[np.uint8]:
    """Codes of DNA letters, (L,) uint8; lower case as upper case."""
    return _CODES[np.frombuffer(letters, dtype=np.uint8)]


def ensure_index(path: Path) -> dict[str, int]:
    """Make the FASTA index (.fai, and .gzi for bgzip) where it is missing or older than the file.

    Once, before workers open the file: two that build it at the same time would spoil it.

    Returns:
        Length of each record that has bases, in bp.

    Raises:
        CatalogError: the file is missing, is not FASTA, is cut short, or its index cannot be written.
        MissingDependencyError: a bgzip file, and pysam is not installed.
    """
    problem = ""
    with _INDEX_LOCK:
        try:
            if path.suffix in _BGZIP_SUFFIXES:
                _require_bgzip(path)
                _require_fitting_index(path, _pysam())
                with _pysam().FastaFile(str(path)) as file:
                    sizes = dict(zip(map(str, file.references), map(int, file.lengths), strict=True))
            else:
                with _faidx(path, build=True) as index:
                    sizes = _lengths(index)
                    problem = _cut_short(path, index)
        except _UNREADABLE as error:
            problem, sizes = f"cannot be read as FASTA ({error})", {}
    if not problem and not sizes:
        problem = "holds no sequence"
    if problem:
        refuse(str(path), problem, "give a FASTA file, plain or compressed with bgzip, in a folder that can be written")
    return sizes


def open_sequence(path: Path) -> SequenceReader:
    """Reader of a FASTA file; `ensure_index` has run before."""
    return SequenceReader(path)


class SequenceReader:
    """DNA windows of a FASTA file; opened where it is used, never pickled.

    Attributes:
        path: the file.
        chrom_sizes: length of each record that has bases, in bp.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bgzip = path.suffix in _BGZIP_SUFFIXES
        try:
            self._file: Any = _pysam().FastaFile(str(path)) if self._bgzip else _faidx(path, build=False)
        except _UNREADABLE as error:
            refuse(str(path), f"cannot be opened as an indexed FASTA ({error})", "run `prism-ray build` again")
        if self._bgzip:
            self.chrom_sizes = dict(zip(map(str, self._file.references), map(int, self._file.lengths), strict=True))
        else:
            self.chrom_sizes = _lengths(self._file)

    def windows(self, chrom: str, tss: NDArray[np.int64], window_bp: int) -> NDArray[np.uint8]:
        """DNA of [tss - L/2, tss + L/2), (N, L) uint8; N beyond the chromosome's ends.

        Raises:
            CatalogError: the file has no such chromosome, or ends before it should.
        """
        if chrom not in self.chrom_sizes:
            refuse(str(self.path), f"has no chromosome {chrom!r}", did_you_mean(chrom, self.chrom_sizes))
        size = self.chrom_sizes[chrom]
        return read_windows(lambda start, end: self._fetch(chrom, start, end), tss, window_bp, size, N_CODE, np.uint8)

    def _fetch(self, chrom: str, start: int, end: int) -> NDArray[np.uint8]:
        if start == end:
            return np.empty(0, dtype=np.uint8)
        try:
            if self._bgzip:
                letters = self._file.fetch(chrom, start, end)
            else:
                letters = self._file.fetch(chrom, start + 1, end)
        except _UNREADABLE as error:
            refuse(f"{self.path}: {chrom}:{start}-{end}", f"cannot be read ({error})", "restore the file")
        codes = encode(letters.encode("latin-1"))
        if len(codes) != end - start:
            refuse(f"{self.path}: {chrom}:{start}-{end}", "the file ends before its index says", "restore the file")
        return codes

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> SequenceReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _faidx(path: Path, *, build: bool) -> Any:
    return pyfaidx.Faidx(str(path), as_raw=True, rebuild=build, build_index=build)


def _lengths(index: Any) -> dict[str, int]:
    """Length of each record that has bases: htslib leaves the others out of the index of a bgzip file."""
    return {str(name): int(record.rlen) for name, record in index.index.items() if record.rlen}


def _pysam() -> ModuleType:
    # pyfaidx needs BioPython for bgzip, and is slower there.
    try:
        import pysam
    except ImportError as error:
        raise MissingDependencyError("a FASTA file compressed with bgzip needs pysam; `pip install pysam`") from error
    # What htslib would print on stderr, our own error says.
    pysam.set_verbosity(0)
    return pysam


def _require_bgzip(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(18)
    if head[:2] != b"\x1f\x8b":
        raise ValueError("its name says bgzip, its content is not compressed")
    if head[12:14] != _BGZIP_MARK:
        raise ValueError("is plain gzip, in which nothing can be found; compress it with bgzip")


def _require_fitting_index(path: Path, pysam: ModuleType) -> None:
    # An index older than its file is common after copying; it is believed only if a new one would be the same.
    index = path.with_name(path.name + ".fai")
    if not index.exists() or index.stat().st_mtime >= path.stat().st_mtime:
        return
    with tempfile.TemporaryDirectory() as folder:
        rebuilt = Path(folder) / "new.fai"
        pysam.faidx(str(path), "--fai-idx", str(rebuilt), "--gzi-idx", str(Path(folder) / "new.gzi"))
        if rebuilt.read_bytes() != index.read_bytes():
            raise ValueError(
                f"its index {index.name} belongs to another content; remove {index.name} and {path.name}.gzi"
            )


def _cut_short(path: Path, index: Any) -> str:
    size = path.stat().st_size
    for name, record in index.index.items():
        if not record.rlen:
            continue
        # The last line need not end with a line feed.
        lines, rest = divmod(record.rlen - 1, record.lenc)
        if record.offset + lines * record.lenb + rest + 1 > size:
            return f"ends before its index says ({name} is cut short)"
    return ""
