"""Regions where a signal stops following the label: calibration on null data, and what is found."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from prism_ray.store.regions import (
    ALPHA,
    STEP_GENES,
    WINDOW_GENES,
    Collapse,
    GeneTrack,
    chrom_bounds,
    chrom_correlations,
    compare,
    find_collapses,
    p_values,
    pearson,
    window_bounds,
)

Floats = NDArray[np.float64]


class Genome:
    """Genes on chromosomes of given sizes whose signal follows the label with correlation r."""

    def __init__(self, sizes: tuple[int, ...], r: float, seed: int = 0, kind: str = "normal") -> None:
        random = np.random.default_rng(seed)
        n = sum(sizes)
        self.chrom = np.repeat([f"chr{number + 1}" for number in range(len(sizes))], sizes)
        self.tss = np.concatenate([np.arange(size) * 40_000 + 10_000 for size in sizes])
        if kind == "shared promoters":
            shared = np.repeat(random.standard_normal((2, n // 2 + 1)), 2, axis=1)[:, :n]
            label = shared[0] + 0.3 * random.standard_normal(n)
            signal = r * shared[0] + np.sqrt(1 - r * r) * shared[1]
        else:
            label = random.standard_normal(n)
            signal = r * label + np.sqrt(1 - r * r) * random.standard_normal(n)
        if kind == "many zeros":
            label, signal = np.maximum(label, 0.0), np.maximum(signal - 0.3, 0.0)
        if kind == "heavy tails":
            label, signal = np.exp(label), np.exp(signal)
        self.label, self.signal = label, signal

    def found(self, **signals: Floats) -> tuple[Collapse, ...]:
        return find_collapses(self.chrom, self.tss, self.label, signals or {"a": self.signal})

    def track(self) -> GeneTrack:
        return GeneTrack(self.chrom, self.tss, self.label, self.signal)

    def rows(self, chrom: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.chrom == chrom)


SIZES = (400, 300, 200, 100, 90, 60, 30, 10)


def shuffled(values: Floats, rows: slice | NDArray[np.int64]) -> Floats:
    result = values.copy()
    result[rows] = np.random.default_rng(7).permutation(result[rows])
    return result


@pytest.mark.parametrize("kind", ["normal", "many zeros", "shared promoters", "heavy tails"])
def test_false_alarms_are_no_more_than_stated(kind: str) -> None:
    n_genomes = 300
    n_alarms = sum(bool(Genome(SIZES, 0.1 + 0.8 * seed / n_genomes, seed, kind).found()) for seed in range(n_genomes))
    assert n_alarms <= stats.binom.ppf(0.999, n_genomes, ALPHA)


def test_p_values_are_uniform_where_nothing_is_wrong() -> None:
    p = []
    for seed in range(150):
        genome = Genome((100, 100, 100, 100), 0.6, seed)
        p += p_values(compare(genome.track(), np.array([[100, 200]])).score).tolist()
    assert stats.kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("r", "fewest"), [(0.6, 12), (0.8, 19), (-0.8, 19)])
def test_a_shuffled_region_is_found_where_it_is(r: float, fewest: int) -> None:
    n_found = 0
    for seed in range(20):
        genome = Genome(SIZES, r, seed)
        found = genome.found(good=genome.signal, bad=shuffled(genome.signal, slice(100, 220)))
        n_found += bool(found)
        for collapse in found:
            assert (collapse.signal, collapse.chrom, collapse.whole_chrom) == ("bad", "chr1", False)
            assert collapse.start < genome.tss[219]
            assert collapse.end > genome.tss[100]
            assert collapse.elsewhere == pytest.approx(r, abs=0.1)
    assert n_found >= fewest


def test_a_chromosome_of_another_assembly_is_named_once() -> None:
    for chrom in ("chr2", "chr6"):
        genome = Genome(SIZES, 0.8)
        (collapse,) = genome.found(a=shuffled(genome.signal, genome.rows(chrom)))
        assert (collapse.chrom, collapse.whole_chrom, collapse.n_genes) == (chrom, True, len(genome.rows(chrom)))
        assert "is the track of this chromosome of the same assembly?" in collapse.to_text()
        assert f"in all of {chrom} (r = " in collapse.to_text()


def test_a_shift_by_some_genes_is_found() -> None:
    genome = Genome(SIZES, 0.8)
    moved = genome.signal.copy()
    moved[50:200] = genome.signal[51:201]
    (collapse,) = genome.found(a=moved)
    assert collapse.chrom == "chr1"
    assert "is the track shifted?" in collapse.to_text()


def test_a_missing_arm_is_found_although_it_has_no_correlation() -> None:
    genome = Genome(SIZES, 0.8)
    empty = genome.signal.copy()
    empty[100:250] = empty.min()
    (collapse,) = genome.found(a=empty)
    assert collapse.chrom == "chr1"
    assert collapse.start <= genome.tss[120]
    assert collapse.end > genome.tss[229]
    nothing = genome.signal.copy()
    nothing[genome.rows("chr5")] = 0.0
    (collapse,) = genome.found(a=nothing)
    assert (collapse.chrom, collapse.correlation) == ("chr5", None)
    assert collapse.to_text().startswith("a is the same for all 90 genes of chr5 (r = 0.7")


def test_silent_genes_side_by_side_are_no_collapse() -> None:
    """A cluster of receptor genes: no expression and no signal, so there is nothing to correlate."""
    genome = Genome(SIZES, 0.8, kind="many zeros")
    for rows in (slice(100, 200), slice(900, 990)):
        genome.label[rows] = 0.0
        genome.signal[rows] = 0.0
    assert genome.found() == ()
    genome.label[rows] = 0.02 * np.random.default_rng(0).random(90)
    genome.signal[rows] = 0.02 * np.random.default_rng(1).random(90)
    assert genome.found() == ()


def test_rare_signals_have_empty_windows_by_chance() -> None:
    genome = Genome(SIZES, 0.8)
    rare = np.where(np.random.default_rng(0).random(len(genome.label)) < 0.02, genome.signal, 0.0)
    assert genome.found(a=rare) == ()


@pytest.mark.parametrize("sizes", [(5,), (100,), (30, 10), (10, 10, 10)])
def test_few_genes_are_not_compared(sizes: tuple[int, ...]) -> None:
    genome = Genome(sizes, 0.9)
    assert genome.found(a=shuffled(genome.signal, genome.rows("chr1"))) == ()


def test_constants_are_no_error() -> None:
    genome = Genome(SIZES, 0.8)
    flat = np.zeros_like(genome.signal)
    assert genome.found(a=flat) == ()
    assert find_collapses(genome.chrom, genome.tss, flat, {"a": genome.signal}) == ()
    assert find_collapses(genome.chrom, genome.tss, genome.label, {}) == ()


def test_text_says_where_and_how_much() -> None:
    collapse = Collapse(
        signal="dnase",
        chrom="chr3",
        start=1_000_000,
        end=2_000_001,
        n_genes=80,
        whole_chrom=False,
        correlation=0.04,
        elsewhere=0.713,
    )
    assert collapse.to_text() == (
        "dnase hardly follows the label in chr3:1,000,000-2,000,001 (r = 0.04 over 80 genes, r = 0.71 elsewhere): "
        "is the track shifted?"
    )


@given(st.lists(st.integers(1, 260), min_size=1, max_size=4))
def test_windows_cover_every_gene_of_a_long_chromosome_and_stay_in_it(sizes: list[int]) -> None:
    chrom = np.repeat([f"chr{number}" for number in range(len(sizes))], sizes)
    windows = window_bounds(chrom)
    for start, stop in chrom_bounds(chrom).values():
        own = [tuple(window) for window in windows.tolist() if start <= window[0] < stop]
        if stop - start <= WINDOW_GENES:
            assert own == []
            continue
        assert own[0][0] == start
        assert own[-1][1] == stop
        assert {b - a for a, b in own} == {WINDOW_GENES}
        assert all(0 < second[0] - first[0] <= STEP_GENES for first, second in pairwise(own))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(-0.9, 0.9))
def test_a_stretch_is_compared_with_all_other_genes(seed: int, r: float) -> None:
    genome = Genome((70, 50), r, seed)
    random = np.random.default_rng(seed)
    start = int(random.integers(0, 60))
    stop = start + int(random.integers(10, 60))
    found = compare(genome.track(), np.array([[start, stop]]))
    inside = np.zeros(120, dtype=bool)
    inside[start:stop] = True
    there = np.corrcoef(genome.signal[inside], genome.label[inside])[0, 1]
    rest = np.corrcoef(genome.signal[~inside], genome.label[~inside])[0, 1]
    u = min(1.0, genome.label[inside].std() / genome.label[~inside].std())
    expected = rest * u / np.sqrt(1 - rest**2 + rest**2 * u**2)
    error = np.sqrt(1 / (inside.sum() - 3) + 1 / ((~inside).sum() - 3))
    assert found.correlation[0] == pytest.approx(there)
    assert found.elsewhere[0] == pytest.approx(rest)
    assert found.expected[0] == pytest.approx(expected)
    assert found.score[0] == pytest.approx(np.sign(rest) * (np.arctanh(expected) - np.arctanh(there)) / error)


def test_correlations_by_chromosome() -> None:
    genome = Genome((50, 40, 3, 1), 0.5)
    genome.signal[90:93] = 4.0
    found = chrom_correlations(genome.track())
    assert list(found) == ["chr1", "chr2", "chr3", "chr4"]
    assert found["chr2"] == pytest.approx(np.corrcoef(genome.signal[50:90], genome.label[50:90])[0, 1])
    assert found["chr3"] is None
    assert found["chr4"] is None
    assert pearson(np.zeros(0), np.zeros(0)) is None
