"""Every reader against a slow and obvious one: gene by gene and base by base, from the description of the method."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cooler
import numpy as np
import pandas as pd
import pyBigWig
import pyfaidx
import pysam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.features import contacts, tracks, windows
from prism_ray.features.fast_readers import READERS_VARIABLE
from prism_ray.features.sequence import ensure_index, open_sequence
from prism_ray.features.signals import open_signal
from prism_ray.features.source_parts import SignalSource

BIN_BP = 250
SIZES = {"chr0": 0, "chr1": 5300, "chr2": 120, "chr3": 2750}
CODE = {"A": 0, "C": 1, "G": 2, "T": 3}
TRANSFORMS = {"none": lambda x: x, "log1p": math.log1p, "log10p1": lambda x: math.log10(1 + x)}


class Request(NamedTuple):
    """Genes of one chromosome, and how their spans are grouped."""

    chrom: str
    tss: np.ndarray
    window_bp: int
    max_gap_bp: int
    max_span_bp: int


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with genome.fa, genome.fa.gz, track.bw, track.bedgraph and map.cool."""
    folder = tmp_path_factory.mktemp("oracle")
    random = np.random.default_rng(4)
    with (folder / "genome.fa").open("w") as stream:
        for chrom, size in SIZES.items():
            letters = "".join(random.choice(list("ACGTNacgtnRY"), size))
            stream.write(f">{chrom}\n" + "".join(f"{letters[at : at + 50]}\n" for at in range(0, size, 50)))
    pysam.tabix_compress(str(folder / "genome.fa"), str(folder / "genome.fa.gz"))
    for name in ("genome.fa", "genome.fa.gz"):
        ensure_index(folder / name)
    _write_tracks(folder, random)
    _write_map(folder / "map.cool", random)
    return folder


def _write_tracks(folder: Path, random: np.random.Generator) -> None:
    """The same intervals as bigWig, where runs of NaN stand between them, and as bedGraph, where nothing does."""
    file = pyBigWig.open(str(folder / "track.bw"), "w")
    file.addHeader(list(SIZES.items()))
    lines = []
    for chrom, size in SIZES.items():
        edges = np.cumsum(random.integers(1, 60, size // 20 + 1))
        edges = [0, *edges[edges < size].tolist(), size]
        # Neighbouring intervals, gaps between some, and the last base of a chromosome.
        for low, high in itertools.pairwise(edges):
            kind = random.integers(4)
            if low < high and kind < 3:
                value = float("nan") if kind == 0 else float(np.float32(random.gamma(1, 2)))
                file.addEntries([chrom], [low], ends=[high], values=[value])
                if kind:
                    lines.append(f"{chrom}\t{low}\t{high}\t{value!r}\n")
    file.close()
    (folder / "track.bedgraph").write_text("".join(lines))


def _write_map(path: Path, random: np.random.Generator) -> None:
    bins = cooler.binnify(pd.Series(SIZES), BIN_BP)
    rows = [
        (a, b, int(n))
        for a in range(len(bins))
        for b in range(a, len(bins))
        if not 5 <= a < 8 and (n := random.poisson(4 / (1 + b - a)))
    ]
    bins["weight"] = random.uniform(0.01, 0.4, len(bins))
    bins.loc[[2, 11], "weight"] = np.nan
    bins["VC"] = random.uniform(0.5, 3, len(bins))
    pixels = pd.DataFrame(rows, columns=["bin1_id", "bin2_id", "count"])
    cooler.create_cooler(str(path), bins, pixels, ordered=True)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    chrom = draw(st.sampled_from([chrom for chrom, size in SIZES.items() if size]))
    size = SIZES[chrom]
    ends = st.sampled_from([0, 1, size - 1, size // 2])
    tss = draw(st.lists(st.integers(0, size - 1) | ends, min_size=1, max_size=5))
    tss += draw(st.lists(st.sampled_from(tss), max_size=2))  # genes that share a TSS
    window_bp = 2 * draw(st.integers(1, 150) | st.sampled_from([600, 2800]))
    gap, span = draw(st.integers(0, 6000)), draw(st.integers(1, 6000))
    return Request(chrom, np.array(tss, dtype=np.int64), window_bp, gap, span)


@contextmanager
def grouped(request: Request) -> Iterator[None]:
    """Spans grouped as asked, whatever a reader would choose."""
    real = windows.group_spans

    def group(tss, window_bp, chrom_size, **_):
        return real(tss, window_bp, chrom_size, request.max_gap_bp, request.max_span_bp)

    with pytest.MonkeyPatch.context() as patch:
        for module in (windows, tracks, contacts):
            patch.setattr(module, "group_spans", group)
        yield


def bases_of(request: Request, gene: int) -> range:
    return range(int(request.tss[gene]) - request.window_bp // 2, int(request.tss[gene]) + request.window_bp // 2)


many = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(requests())
@many
def test_dna(genome: Path, request_: Request) -> None:
    with pyfaidx.Fasta(str(genome / "genome.fa")) as fasta:
        letters = str(fasta[request_.chrom])
    expected = [
        [CODE.get(letters[base].upper(), 4) if 0 <= base < len(letters) else 4 for base in bases_of(request_, gene)]
        for gene in range(len(request_.tss))
    ]
    for name in ("genome.fa", "genome.fa.gz"):
        with grouped(request_), open_sequence(genome / name) as reader:
            assert reader.chrom_sizes == {chrom: size for chrom, size in SIZES.items() if size}
            assert reader.windows(request_.chrom, request_.tss, request_.window_bp).tolist() == expected


@given(requests(), st.sampled_from(list(TRANSFORMS)))
@many
def test_tracks(genome: Path, request_: Request, transform: str) -> None:
    expected = np.zeros((len(request_.tss), request_.window_bp))
    n_missing = 0
    with pyBigWig.open(str(genome / "track.bw")) as track:
        for gene in range(len(request_.tss)):
            for place, base in enumerate(bases_of(request_, gene)):
                if 0 <= base < SIZES[request_.chrom]:
                    value = value_at(track, request_.chrom, base)
                    n_missing += math.isnan(value)
                    expected[gene, place] = 0.0 if math.isnan(value) else TRANSFORMS[transform](value)
    found = []
    for file, kind, readers in (
        ("track.bw", "bigwig", "auto"), ("track.bw", "bigwig", "plain"), ("track.bedgraph", "bedgraph", "plain"),
    ):  # fmt: skip
        source = SignalSource(file=file, kind=kind, role="foreground", transform=transform)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(READERS_VARIABLE, readers)
            with grouped(request_), open_signal(source, genome / file, SIZES) as reader:
                found.append(reader.windows(request_.chrom, request_.tss, request_.window_bp))
    for each in found:
        assert each.n_missing == n_missing
        np.testing.assert_allclose(each.values, expected, rtol=1e-5, atol=1e-6)
        assert each.values.tobytes() == found[0].values.tobytes()


def value_at(track, chrom: str, base: int) -> float:
    return float(track.values(chrom, base, base + 1)[0])


NORMALISED = [
    {"balance": True},
    {"balance": False},
    {"balance": "VC"},
    {"balance": False, "marginal": "vc"},
    {"balance": False, "marginal": "vc_sqrt"},
]


@functools.cache
def dense(path: str, chrom: str, balance: bool | str, marginal: str) -> np.ndarray:
    """Contacts of a chromosome, (n, n); NaN where a bin is masked."""
    matrix = cooler.Cooler(path).matrix(balance=balance).fetch(chrom).astype(np.float64)
    if marginal == "none":
        return matrix
    power = {"vc": 1.0, "vc_sqrt": 0.5}[marginal]
    expected = np.full(matrix.shape, np.nan)
    margins = [sum(row) for row in matrix.tolist()]
    for i, own in enumerate(margins):
        for j, other in enumerate(margins):
            if own > 0 and other > 0:
                expected[i, j] = matrix[i, j] / (own * other) ** power
    return expected * (matrix.sum() / np.nansum(expected)) if matrix.any() else expected


@given(requests(), st.sampled_from(NORMALISED), st.booleans(), st.booleans(), st.sampled_from(["none", "log10p1"]))
@many
def test_contacts(
    genome: Path, request_: Request, normalised: dict, quality: bool, with_pseudocount: bool, transform: str
) -> None:
    size = SIZES[request_.chrom]
    matrix = dense(
        str(genome / "map.cool"), request_.chrom, normalised["balance"], normalised.get("marginal", "none")
    ).tolist()
    expected = np.zeros((len(request_.tss), request_.window_bp))
    n_missing = 0
    for gene, tss in enumerate(request_.tss.tolist()):
        row = matrix[tss // BIN_BP]
        near = [row[base // BIN_BP] for base in range(tss - 500, tss + 500) if 0 <= base < size]
        silent = quality and sum(0 if math.isnan(value) else value for value in near) < 0.01
        for place, base in enumerate(bases_of(request_, gene)):
            if not 0 <= base < size:
                continue
            value = row[base // BIN_BP]
            if silent or math.isnan(value):
                n_missing += 1
                value = 0.0
            if with_pseudocount:
                law = [
                    math.exp(-4.80 + 11.63 * 0.87 - 0.87 * math.log(max(d, 5000) + 1)) for d in (abs(base - tss), 10**6)
                ]
                value += min(law)
            expected[gene, place] = TRANSFORMS[transform](value)
    source = SignalSource(
        file="m", kind="cooler", role="background", transform=transform, quality=quality,
        pseudocount="powerlaw" if with_pseudocount else "none", **normalised,
    )  # fmt: skip
    with grouped(request_), open_signal(source, genome / "map.cool") as reader:
        found = reader.windows(request_.chrom, request_.tss, request_.window_bp)
    assert found.n_missing == n_missing
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-9)
    with open_signal(source, genome / "map.cool") as reader:
        alone = [
            reader.windows(request_.chrom, request_.tss[gene : gene + 1], request_.window_bp)
            for gene in range(len(request_.tss))
        ]
    assert np.vstack([each.values for each in alone]).tobytes() == found.values.tobytes()


def test_a_contig_of_no_length_has_no_bases(genome: Path) -> None:
    tss = np.array([0])
    source = SignalSource(file="track.bw", kind="bigwig", role="foreground")
    with open_signal(source, genome / "track.bw") as reader:
        found = reader.windows("chr0", tss, 6)
        assert (found.values.tolist(), found.n_missing) == ([[0.0] * 6], 0)
    for name in ("genome.fa", "genome.fa.gz"):
        with open_sequence(genome / name) as dna:
            assert list(dna.chrom_sizes) == ["chr1", "chr2", "chr3"]


def test_one_span_or_many_give_the_same_bits(genome: Path) -> None:
    """Where every base is compared by the tests above, spans of the real size are compared here."""
    tss = np.arange(0, SIZES["chr1"], 97)
    for file, kind in (("track.bw", "bigwig"), ("map.cool", "cooler")):
        source = SignalSource(file=file, kind=kind, role="foreground", transform="log10p1")
        with open_signal(source, genome / file) as reader:
            together = reader.windows("chr1", tss, 2000)
            apart = [reader.windows("chr1", tss[[gene]], 2000) for gene in range(len(tss))]
        assert together.values.tobytes() == np.vstack([each.values for each in apart]).tobytes()
        assert together.n_missing == sum(each.n_missing for each in apart)
