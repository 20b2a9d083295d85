from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features.signals import open_signal
from prism_ray.features.source_parts import SignalSource

Interval = tuple[int, int, float]


def source(kind: str = "bigwig", transform: str = "none") -> SignalSource:
    return SignalSource(file="track", kind=kind, role="foreground", transform=transform)


def write_bigwig(path: Path, size: int, intervals: list[Interval], other: int = 0) -> Path:
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr1", size), *([("chr2", other)] if other else [])])
    if intervals:
        starts, ends, values = zip(*intervals, strict=True)
        file.addEntries(["chr1"] * len(starts), list(starts), ends=list(ends), values=list(values))
    file.close()
    return path


def write_bedgraph(path: Path, intervals: list[Interval]) -> Path:
    lines = ["track type=bedGraph name=x", "# a comment"]
    lines += [f"chr1\t{start}\t{end}\t{value}" for start, end, value in intervals]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def naive(size: int, intervals: list[Interval], tss: list[int], window_bp: int, transform: str) -> tuple[list, int]:
    """Base by base, from the definition of a window."""
    change = {"none": lambda x: x, "log1p": np.log1p, "log10p1": lambda x: np.log10(1 + x)}[transform]
    rows, n_missing = [], 0
    for position in tss:
        row = []
        for base in range(position - window_bp // 2, position + window_bp // 2):
            covering = [value for start, end, value in intervals if start <= base < end]
            if not 0 <= base < size:
                row.append(0.0)
            elif not covering or np.isnan(covering[0]):
                row.append(0.0)
                n_missing += 1
            else:
                row.append(float(change(covering[0])))
        rows.append(row)
    return rows, n_missing


@st.composite
def tracks(draw: st.DrawFn) -> tuple[int, list[Interval], list[int], int]:
    size = draw(st.integers(2, 200))
    edges = sorted(draw(st.sets(st.integers(0, size), min_size=2, max_size=12)))
    values = st.floats(0, 100, width=32) | st.just(float("nan"))
    intervals = [(a, b, draw(values)) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    tss = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6))
    return size, intervals, tss, 2 * draw(st.integers(1, 150))


@given(tracks(), st.sampled_from(["none", "log1p", "log10p1"]), st.sampled_from(["bigwig", "bedgraph"]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_those_of_reading_base_by_base(
    tmp_path: Path, track: tuple[int, list[Interval], list[int], int], transform: str, kind: str
) -> None:
    size, intervals, tss, window_bp = track
    if kind == "bedgraph":
        intervals = [part for part in intervals if not np.isnan(part[2])] or [(0, 1, 1.0)]
        path = write_bedgraph(tmp_path / "track.bedgraph", intervals)
    else:
        path = write_bigwig(tmp_path / "track.bw", size, intervals)
    expected, n_missing = naive(size, intervals, tss, window_bp, transform)
    with open_signal(source(kind, transform), path, {"chr1": size}) as reader:
        found = reader.windows("chr1", np.array(tss, dtype=np.int64), window_bp)
    assert found.values.dtype == np.float32
    assert found.n_missing == n_missing
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)


def test_a_window_is_the_same_in_a_longer_one_bit_for_bit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    intervals = [(start, start + 3, float(np.float32(random.gamma(1)))) for start in range(0, 9000, 4)]
    path = write_bigwig(tmp_path / "track.bw", 9500, intervals)
    tss = np.array([10, 4000, 4100, 9400])
    with open_signal(source(transform="log1p"), path) as reader:
        short, long = reader.windows("chr1", tss, 200), reader.windows("chr1", tss, 3000)
        alone = reader.windows("chr1", tss[2:3], 200)
    assert np.array_equal(short.values, long.values[:, 1400:1600])
    assert np.array_equal(short.values[2:3], alone.values)


def test_neighbours_share_a_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bigwig(tmp_path / "track.bw", 1_000_000, [(0, 1_000_000, 1.0)])
    with open_signal(source(), path) as reader:
        fetched = []
        real = reader.fetch
        monkeypatch.setattr(reader, "fetch", lambda *where: fetched.append(where) or real(*where))
        reader.windows("chr1", np.array([5000, 6000, 900_000]), 2000)
    assert fetched == [("chr1", 4000, 7000), ("chr1", 899_000, 901_000)]


def test_a_contig_without_values_is_all_missing(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "track.bw", 50, [(0, 5, 1.0)], other=30)
    with open_signal(source(), path) as reader:
        assert reader.chrom_sizes == {"chr1": 50, "chr2": 30}
        found = reader.windows("chr2", np.array([2]), 10)
    assert found.n_missing == 7
    assert not found.values.any()


def test_bedgraph_may_be_compressed(tmp_path: Path) -> None:
    path = write_bedgraph(tmp_path / "track.bedgraph.gz", [(3, 5, 2.0)])
    with open_signal(source("bedgraph"), path) as reader:
        assert reader.chrom_sizes == {"chr1": 5}
        assert reader.windows("chr1", np.array([4]), 4).values.tolist() == [[0, 2, 2, 0]]


@pytest.mark.parametrize(
    ("kind", "value", "transform", "message"),
    [
        ("bigwig", -0.5, "log1p", "chr1:3: the value -0.5 cannot be used with transform log1p; use transform: none"),
        ("bigwig", np.inf, "none", "chr1:3: the value inf cannot be used with transform none"),
        ("bedgraph", -0.5, "log10p1", "chr1:3: the value -0.5 cannot be used with transform log10p1"),
    ],
)
def test_values_that_a_transform_cannot_take_are_refused(
    tmp_path: Path, kind: str, value: float, transform: str, message: str
) -> None:
    intervals = [(0, 3, 1.0), (3, 5, value)]
    if kind == "bigwig":
        path = write_bigwig(tmp_path / "track.bw", 20, intervals)
    else:
        path = write_bedgraph(tmp_path / "track.bedgraph", intervals)
    with open_signal(source(kind, transform), path) as reader, pytest.raises(CatalogError) as caught:
        reader.windows("chr1", np.array([4]), 6)
    assert message in str(caught.value)


def test_negative_values_pass_without_a_logarithm(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "track.bw", 20, [(0, 3, -1.5)])
    with open_signal(source(), path) as reader:
        assert reader.windows("chr1", np.array([2]), 4).values.tolist() == [[-1.5, -1.5, -1.5, 0]]


def test_unknown_chromosome_is_refused(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "track.bw", 20, [(0, 3, 1.0)])
    with open_signal(source(), path) as reader, pytest.raises(CatalogError, match="has no chromosome '1'"):
        reader.windows("1", np.array([4]), 6)


def spoil_text(path: Path) -> None:
    path.write_text("chr1 0 5 1.0\n")


def spoil_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_bigbed(path: Path) -> None:
    path.write_bytes(bytes.fromhex("ebf28987") + b"\0" * 100)


def spoil_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4] + b"\xff" * 20 + path.read_bytes()[-4:])


def spoil_names(path: Path) -> None:
    """The names of chromosomes, which lie behind the headers of their tree (32 bytes) and of its leaf (4)."""
    content = bytearray(path.read_bytes())
    start = int.from_bytes(content[8:16], "little") + 36
    content[start : start + 2] = b"\xff\xff"
    path.write_bytes(bytes(content))


def spoil_missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_text, "is not a bigWig; give a bigWig file, or state another kind"),
        (spoil_truncated, "is cut short: its last four bytes are not those of a bigWig; fetch the file again"),
        (spoil_empty, "is not a bigWig"),
        (spoil_bigbed, "is a bigBed, not a bigWig"),
        (spoil_header, "cannot be opened as a bigWig"),
        (spoil_names, "cannot be opened as a bigWig"),
        (spoil_missing, "cannot be read (No such file or directory)"),
    ],
)
def test_files_that_are_no_bigwig_are_refused(tmp_path: Path, spoil, message: str) -> None:
    path = write_bigwig(tmp_path / "track.bw", 20, [(0, 3, 1.0)])
    spoil(path)
    with pytest.raises(CatalogError) as caught:
        open_signal(source(), path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_damage_behind_the_header_is_refused_when_read(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "track.bw", 5000, [(start, start + 1, float(start)) for start in range(4000)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 500] = b"\xff" * 500
    path.write_bytes(bytes(content))
    with open_signal(source(), path) as reader, pytest.raises(CatalogError, match=r"chr1:0-5000: cannot be read"):
        reader.windows("chr1", np.array([2500]), 5000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1 5 5 1\n", "1 lines are not intervals with a value, first line 1 'chr1 5 5 1'"),
        ("chr1 5 x 1\n", "1 lines are not intervals"),
        ("chr1 5 9\n", "1 lines are not intervals"),
        ("chr1 -5 9 1\n", "1 lines are not intervals"),
        ("chr1 5 9 1\nchr1 8 12 1\n", "1 intervals overlap, first at chr1:8; keep one value a base"),
        ("track x\n", "holds no interval"),
        ("", "holds no interval"),
        ("\nchr1 1 2 3 4 5\n", "1 lines are not intervals with a value, first line 2"),
        ("chr1 1 2 inf\n", "1 lines are not intervals with a value"),
    ],
)
def test_files_that_are_no_bedgraph_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "track.bedgraph"
    path.write_text(text)
    with pytest.raises(CatalogError) as caught:
        open_signal(source("bedgraph"), path)
    assert message in str(caught.value)


def test_compressed_bedgraph_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_bedgraph(tmp_path / "track.bedgraph.gz", [(3, 5, 2.0)])
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(CatalogError, match="cannot be read as bedGraph"):
        open_signal(source("bedgraph"), path)


class Regions:
    """Blacklisted stretches of chr1."""

    def __init__(self, *stretches: tuple[int, int]) -> None:
        self.stretches = stretches

    def mask(self, chrom: str, start: int, end: int) -> np.ndarray:
        bases = np.arange(start, end)
        masked = np.zeros(end - start, dtype=bool)
        for low, high in self.stretches if chrom == "chr1" else ():
            masked |= (bases >= low) & (bases < high)
        return masked


@given(tracks(), st.lists(st.tuples(st.integers(0, 200), st.integers(1, 60)), max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blacklisted_bases_have_no_value(
    tmp_path: Path, track: tuple[int, list[Interval], list[int], int], regions: list[tuple[int, int]]
) -> None:
    size, intervals, tss, window_bp = track
    intervals = [part for part in intervals if not np.isnan(part[2])] or [(0, 1, 1.0)]
    blacklist = Regions(*((low, low + width) for low, width in regions))
    masked = blacklist.mask("chr1", 0, size)
    by_base = [(b, b + 1, value) for start, end, value in intervals for b in range(start, end) if not masked[b]]
    expected, n_missing = naive(size, by_base, tss, window_bp, "log1p")
    for kind, path in (
        ("bigwig", write_bigwig(tmp_path / "track.bw", size, intervals)),
        ("bedgraph", write_bedgraph(tmp_path / "track.bedgraph", intervals)),
    ):
        with open_signal(source(kind, "log1p"), path, {"chr1": size}, blacklist) as reader:
            found = reader.windows("chr1", np.array(tss, dtype=np.int64), window_bp)
        np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)
        assert found.n_missing == n_missing


def test_an_artefact_of_any_size_is_masked(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "track.bw", 20, [(0, 3, 1.0), (3, 5, np.inf), (5, 6, -2.0), (6, 9, 4.0)])
    with open_signal(source(transform="log1p"), path, blacklist=Regions((3, 6))) as reader:
        found = reader.windows("chr1", np.array([4]), 8)
    assert found.n_missing == 3
    np.testing.assert_allclose(found.values, [[*np.log1p([1, 1, 1]), 0, 0, 0, *np.log1p([4, 4])]], rtol=1e-6)


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "track.bw", 20, [(0, 5, -0.0)])
    with open_signal(source(transform="log10p1"), path) as reader:
        found = reader.windows("chr1", np.array([3]), 6)
    assert found.n_missing == 1
    assert found.values.tolist() == [[0.0] * 6]


@pytest.mark.parametrize("choice", ["auto", "plain"])
def test_a_contig_of_no_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    monkeypatch.setenv("PRISM_RAY_READERS", choice)
    file = pyBigWig.open(str(tmp_path / "track.bw"), "w")
    file.addHeader([("chr0", 0), ("chr1", 50)])
    file.addEntries(["chr1"], [3], ends=[9], values=[2.0])
    file.close()
    with open_signal(source(), tmp_path / "track.bw") as reader:
        assert reader.chrom_sizes == {"chr0": 0, "chr1": 50}
        found = reader.windows("chr0", np.array([0]), 10)
        assert found.n_missing == 0
        assert not found.values.any()
        assert reader.windows("chr1", np.array([5]), 4).values.tolist() == [[2.0] * 4]


def test_each_reader_says_what_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISM_RAY_READERS", "plain")
    with open_signal(source(), write_bigwig(tmp_path / "track.bw", 20, [(0, 3, 1.0)])) as reader:
        assert reader.backend == "pyBigWig"
    with open_signal(source("bedgraph"), write_bedgraph(tmp_path / "track.bedgraph", [(0, 3, 1.0)])) as reader:
        assert reader.backend == "text"
