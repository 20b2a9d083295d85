from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features.blacklist import read_blacklist

BED = """\
track name="ENCODE blacklist"
browser position chr1
# comment

chr2\t5\t8\tHigh Signal Region\t1000
chr1\t10\t20
chr1\t0\t2
"""


def test_bed(tmp_path: Path) -> None:
    (tmp_path / "a.bed").write_text(BED)
    (tmp_path / "a.bed.gz").write_bytes(gzip.compress(BED.encode()))
    for name in ("a.bed", "a.bed.gz"):
        found = read_blacklist(tmp_path / name)
        assert found.chroms == ("chr2", "chr1")
        assert np.flatnonzero(found.mask("chr1", 0, 30)).tolist() == [0, 1, *range(10, 20)]
        assert np.flatnonzero(found.mask("chr1", 15, 17)).tolist() == [0, 1]
        assert np.flatnonzero(found.mask("chr2", 4, 7)).tolist() == [1, 2]
        assert not found.mask("chr3", 0, 5).any()
        assert found.mask("chr1", 7, 7).shape == (0,)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=12),
    st.integers(0, 60),
    st.integers(0, 30),
)
def test_every_base_against_a_slow_oracle(
    tmp_path_factory: pytest.TempPathFactory, regions: list[tuple[int, int]], start: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("bed") / "a.bed"
    path.write_text("".join(f"chr1\t{low}\t{low + size}\n" for low, size in regions))
    blacklist = read_blacklist(path)
    expected = [any(low <= base < low + size for low, size in regions) for base in range(start, start + length)]
    assert blacklist.mask("chr1", start, start + length).tolist() == expected
    starts, ends = blacklist.regions["chr1"]
    assert (starts[1:] > ends[:-1]).all()
    assert pickle.loads(pickle.dumps(blacklist)).mask("chr1", start, start + length).tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no region; write lines of chrom, start, end between tabs, with 0 <= start < end, or leave"),
        ("chr1\t1\t2\nchr1\t5\nchr1\t9\t9\n", "2 lines are not regions, first line 2 'chr1\\t5'; write lines of chrom"),
        ("chr1\t-1\t5\n", "1 lines are not regions, first line 1"),
        ("chr1\tx\t5\n", "1 lines are not regions"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.bed").write_text(text)
    with pytest.raises(CatalogError) as caught:
        read_blacklist(tmp_path / "a.bed")
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"nowhere.bed: no such file"):
        read_blacklist(tmp_path / "nowhere.bed")
    (tmp_path / "a.bed.gz").write_bytes(gzip.compress(BED.encode())[:-9])
    with pytest.raises(CatalogError, match=r"cannot be read as BED"):
        read_blacklist(tmp_path / "a.bed.gz")
    (tmp_path / "a.bed").write_bytes(b"chr1\t1\t2\xff\n")
    with pytest.raises(CatalogError, match=r"cannot be read as BED"):
        read_blacklist(tmp_path / "a.bed")
