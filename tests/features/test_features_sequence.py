from __future__ import annotations

import gzip
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.errors import CatalogError, MissingDependencyError
from prism_ray.features.sequence import ensure_index, one_hot, open_sequence, reverse_complement

RECORDS = {"chr1": "ACGTNacgtnRYKM" * 9, "chr2": "TTTTGGGG"}
CODE = {"A": 0, "C": 1, "G": 2, "T": 3}


def write_fasta(path: Path, width: int = 10) -> Path:
    lines = []
    for name, letters in RECORDS.items():
        lines.append(f">{name} description")
        lines += [letters[start : start + width] for start in range(0, len(letters), width)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(params=["plain", "bgzip"])
def fasta(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = write_fasta(tmp_path / "genome.fa")
    if request.param == "bgzip":
        pysam.tabix_compress(str(path), str(path) + ".gz")
        path = tmp_path / "genome.fa.gz"
    return path


def naive(letters: str, tss: int, window_bp: int) -> list[int]:
    codes = []
    for base in range(tss - window_bp // 2, tss + window_bp // 2):
        inside = 0 <= base < len(letters)
        codes.append(CODE.get(letters[base].upper(), 4) if inside else 4)
    return codes


def test_windows_are_those_of_reading_base_by_base(fasta: Path) -> None:
    assert ensure_index(fasta) == {"chr1": 126, "chr2": 8}
    with open_sequence(fasta) as reader:
        for chrom, letters in RECORDS.items():
            for window_bp in (2, 6, 40, 300):
                tss = np.array([0, 1, len(letters) - 1, len(letters) // 2, 3], dtype=np.int64)
                found = reader.windows(chrom, tss, window_bp)
                assert found.dtype == np.uint8
                assert found.tolist() == [naive(letters, int(t), window_bp) for t in tss]


def test_no_genes_no_windows(fasta: Path) -> None:
    ensure_index(fasta)
    with open_sequence(fasta) as reader:
        assert reader.windows("chr1", np.array([], dtype=np.int64), 6).shape == (0, 6)


def test_unknown_chromosome_names_the_nearest(fasta: Path) -> None:
    ensure_index(fasta)
    with (
        open_sequence(fasta) as reader,
        pytest.raises(CatalogError, match=r"has no chromosome 'chr11'; use one of chr1, chr2"),
    ):
        reader.windows("chr11", np.array([1]), 4)


@given(st.lists(st.integers(0, 4), max_size=30))
def test_reverse_complement_twice_is_the_same(codes: list[int]) -> None:
    strand = np.array(codes, dtype=np.uint8)
    assert reverse_complement(reverse_complement(strand)).tolist() == codes


def test_reverse_complement_and_one_hot_by_hand() -> None:
    codes = np.array([[0, 1, 2, 3, 4]], dtype=np.uint8)  # ACGTN
    assert reverse_complement(codes).tolist() == [[4, 0, 1, 2, 3]]  # NACGT
    expected = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert one_hot(codes).dtype == np.float32
    assert one_hot(codes).tolist() == [expected]


def test_index_older_than_the_file_is_made_again(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "genome.fa")
    ensure_index(path)
    write_fasta(path, width=7)
    os.utime(tmp_path / "genome.fa.fai", (0, 0))
    ensure_index(path)
    with open_sequence(path) as reader:
        assert reader.windows("chr1", np.array([60]), 40).tolist() == [naive(RECORDS["chr1"], 60, 40)]


def test_older_bgzip_index_is_believed_only_if_it_fits(tmp_path: Path) -> None:
    plain = write_fasta(tmp_path / "genome.fa")
    packed = tmp_path / "genome.fa.gz"
    pysam.tabix_compress(str(plain), str(packed))
    ensure_index(packed)
    os.utime(tmp_path / "genome.fa.gz.fai", (0, 0))
    assert ensure_index(packed) == {"chr1": 126, "chr2": 8}
    pysam.tabix_compress(str(write_fasta(plain, width=7)), str(packed), force=True)
    os.utime(tmp_path / "genome.fa.gz.fai", (0, 0))
    with pytest.raises(CatalogError, match=r"its index genome.fa.gz.fai belongs to another content; remove"):
        ensure_index(packed)


def spoil_plain_gzip(path: Path) -> Path:
    packed = path.with_name("genome.fa.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed


def spoil_not_compressed(path: Path) -> Path:
    return Path(shutil.copy(path, path.with_name("genome.fa.gz")))


def spoil_cut_short(path: Path) -> Path:
    ensure_index(path)
    path.write_bytes(path.read_bytes()[:-8])
    os.utime(path.with_name("genome.fa.fai"), None)
    return path


def spoil_no_record(path: Path) -> Path:
    path.write_text("")
    return path


def spoil_text(path: Path) -> Path:
    path.write_text("chrom\tstart\nchr1\t5\n")
    return path


def spoil_missing(path: Path) -> Path:
    path.unlink()
    return path


def spoil_same_name(path: Path) -> Path:
    path.write_text(">chr1\nACGT\n>chr1\nACGT\n")
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_plain_gzip, "is plain gzip, in which nothing can be found; compress it with bgzip"),
        (spoil_not_compressed, "its name says bgzip, its content is not compressed"),
        (spoil_cut_short, "ends before its index says (chr2 is cut short)"),
        (spoil_no_record, "give a FASTA file, plain or compressed with bgzip"),
        (spoil_text, "give a FASTA file, plain or compressed with bgzip"),
        (spoil_missing, "cannot be read as FASTA"),
        (spoil_same_name, "cannot be read as FASTA"),
    ],
)
def test_files_that_are_no_fasta_are_refused(tmp_path: Path, spoil, message: str) -> None:
    path = spoil(write_fasta(tmp_path / "genome.fa"))
    with pytest.raises(CatalogError) as caught:
        ensure_index(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_without_an_index_nothing_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be opened as an indexed FASTA"):
        open_sequence(write_fasta(tmp_path / "genome.fa"))


def test_file_cut_after_the_check_is_refused_when_read(tmp_path: Path) -> None:
    path = write_fasta(tmp_path / "genome.fa")
    ensure_index(path)
    reader = open_sequence(path)
    os.truncate(path, 40)
    with reader, pytest.raises(CatalogError, match="chr1:70-90"):
        reader.windows("chr1", np.array([80]), 20)


def test_bgzip_without_pysam_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write_fasta(tmp_path / "genome.fa")
    packed = tmp_path / "genome.fa.gz"
    pysam.tabix_compress(str(plain), str(packed))
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(MissingDependencyError, match="pip install pysam"):
        ensure_index(packed)
