"""The faster readers give what the plain ones give, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features import fast_readers
from prism_ray.features.fast_readers import READERS_VARIABLE, fast_bigwig
from prism_ray.features.signals import BigWigReader

pytest.importorskip("pybigtools")

SPECIAL = [0.0, -0.0, 1e-42, -3.5, 3.4e38, float("inf"), float("-inf"), float("nan")]


def write(path: Path, sizes: list[tuple[str, int]], chrom: str, intervals: list[tuple[int, int, float]]) -> Path:
    file = pyBigWig.open(str(path), "w")
    file.addHeader(sizes)
    if intervals:
        starts, ends, values = zip(*intervals, strict=True)
        file.addEntries([chrom] * len(starts), list(starts), ends=list(ends), values=list(values))
    file.close()
    return path


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype == np.float32
    absent = np.isnan(expected)
    assert np.array_equal(np.isnan(found), absent)
    # How a missing value is spelt does not matter: it becomes 0 and is counted.
    assert np.array_equal(found[~absent].view(np.uint32), expected[~absent].view(np.uint32))


def both(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[BigWigReader, BigWigReader]:
    with monkeypatch.context() as patch:
        patch.setenv(READERS_VARIABLE, "plain")
        plain = BigWigReader(path, "none")
    fast = BigWigReader(path, "none")
    assert (fast.backend, plain.backend) == ("pybigtools", "pyBigWig")
    return fast, plain


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_span_of_any_track(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 300))
    edges = sorted(data.draw(st.sets(st.integers(0, size), min_size=0, max_size=20)))
    values = st.sampled_from(SPECIAL) | st.floats(width=32)
    intervals = [(a, b, data.draw(values)) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    sizes = [("chr0", 0), ("chr1", size), ("1", 40)]
    fast, plain = both(write(tmp_path / "track.bw", sizes, "chr1", intervals), monkeypatch)
    with fast, plain:
        for chrom, length in sizes:
            low = data.draw(st.integers(0, length))
            high = data.draw(st.integers(low, length))
            for start, end in ((low, high), (0, length)):
                assert_same_bits(fast.fetch(chrom, start, end), plain.fetch(chrom, start, end))


def test_steps_and_spans_and_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed and variable steps, which are stored differently from intervals; zoom levels do not show."""
    path = tmp_path / "track.bw"
    random = np.random.default_rng(0)
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr1", 400_000)], maxZooms=5)
    file.addEntries("chr1", 100, values=random.gamma(1, 1, 3000), span=10, step=25)
    file.addEntries("chr1", [100_000 + 7 * i for i in range(5000)], values=random.gamma(1, 1, 5000), span=3)
    low = np.arange(200_000, 390_000, 3)
    file.addEntries(["chr1"] * len(low), low.tolist(), ends=(low + 2).tolist(), values=random.gamma(1, 1, len(low)))
    file.close()
    fast, plain = both(path, monkeypatch)
    with fast, plain:
        for start in (0, 90, 99_990, 150_000, 199_999, 300_001):
            for length in (1, 2000, 100_000):
                assert_same_bits(
                    fast.fetch("chr1", start, min(start + length, 400_000)),
                    plain.fetch("chr1", start, min(start + length, 400_000)),
                )


def test_simulated_tracks(tiny_genome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(tiny_genome.glob("*.bw")):
        fast, plain = both(path, monkeypatch)
        with fast, plain:
            for chrom, size in fast.chrom_sizes.items():
                assert_same_bits(fast.fetch(chrom, 0, size), plain.fetch(chrom, 0, size))


@pytest.mark.parametrize(
    "name",
    [
        "hg38/K562_H3K27ac.peaks.lifted_hg38.bw",
        "hg38/K562_DNase_ENCFF860XAE.chr22.summit_pileup.hg38.bw",
        "hg19/K562_H3K27me3.chr9_4_6Mb.perbase.bw",
        "hg19/GM12878_ATAC_GL1.chr1.cutsite150.hg19.bw",
    ],
)
def test_real_tracks(real_pack: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fast, plain = both(real_pack / name, monkeypatch)
    n_values = 0
    with fast, plain, pyBigWig.open(str(real_pack / name)) as opened:
        for chrom, size in fast.chrom_sizes.items():
            spans = [(0, min(size, 3000)), (max(size - 3000, 0), size)]
            intervals = opened.intervals(chrom, 0, size) or ()
            for start, end, _ in intervals[:: len(intervals) // 5 + 1]:
                spans += [(max(start - 1000, 0), min(start + 1000, size)), (start, end)]
                spans += [(max(start - 150_000, 0), min(start + 50_000, size))]
            for start, end in spans:
                expected = plain.fetch(chrom, start, end)
                assert_same_bits(fast.fetch(chrom, start, end), expected)
                n_values += int((~np.isnan(expected)).sum())
    assert n_values > 1000


def test_long_spans_are_read_by_the_plain_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "track.bw", [("chr1", 100)], "chr1", [(10, 60, 2.5)])
    opened = fast_bigwig(path)
    assert opened is not None
    monkeypatch.setattr(fast_readers, "MAX_SPAN_BP", 50)
    assert opened.values("chr1", 0, 51) is None
    found = opened.values("chr1", 10, 60)
    assert found is not None
    assert found.tolist() == [2.5] * 50
    opened.close()
    fast, plain = both(path, monkeypatch)
    with fast, plain:
        assert_same_bits(fast.fetch("chr1", 0, 100), plain.fetch("chr1", 0, 100))


def test_spans_keep_their_values_when_another_is_read(tmp_path: Path) -> None:
    with BigWigReader(write(tmp_path / "track.bw", [("chr1", 100)], "chr1", [(10, 60, 2.5)]), "none") as reader:
        first = reader.fetch("chr1", 10, 20)
        reader.fetch("chr1", 60, 90)
    assert first.tolist() == [2.5] * 10


@pytest.mark.parametrize("choice", ["auto", "plain"])
def test_damage_is_said_in_the_same_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv(READERS_VARIABLE, choice)
    intervals = [(start, start + 1, float(start)) for start in range(4000)]
    path = write(tmp_path / "track.bw", [("chr1", 5000)], "chr1", intervals)
    content = bytearray(path.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 500] = b"\xff" * 500
    path.write_bytes(bytes(content))
    with BigWigReader(path, "none") as reader, pytest.raises(CatalogError) as caught:
        reader.windows("chr1", np.array([2500]), 5000)
    assert "chr1:0-5000: cannot be read (" in str(caught.value)
    assert str(caught.value).endswith("the file is damaged; restore it")


def test_without_the_package_the_plain_reader_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "track.bw", [("chr1", 100)], "chr1", [(10, 60, 2.5)])
    monkeypatch.setitem(sys.modules, "pybigtools", None)
    with BigWigReader(path, "none") as reader:
        assert reader.backend == "pyBigWig"
        assert reader.fetch("chr1", 10, 12).tolist() == [2.5, 2.5]


def test_a_file_that_only_the_plain_reader_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pybigtools

    class PanicException(BaseException):
        """As pybigtools raises it where it meets what it does not expect."""

    def panic(path: str) -> None:
        raise PanicException(path)

    path = write(tmp_path / "track.bw", [("chr1", 100)], "chr1", [(10, 60, 2.5)])
    monkeypatch.setattr(pybigtools, "open", panic)
    assert fast_bigwig(path) is None

    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pybigtools, "open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fast_bigwig(path)


def test_other_choices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "track.bw", [("chr1", 100)], "chr1", [(10, 60, 2.5)])
    monkeypatch.setenv(READERS_VARIABLE, "slow")
    with pytest.raises(CatalogError, match="PRISM_RAY_READERS: 'slow' is no choice of readers; set it to one of auto"):
        BigWigReader(path, "none")
