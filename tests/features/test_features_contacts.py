from __future__ import annotations

import functools
import math
from pathlib import Path

import cooler
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features import contacts
from prism_ray.features.contacts import power_law, pseudocount
from prism_ray.features.signals import open_signal
from prism_ray.features.sources import SignalSource

BIN_BP = 1000
SIZES = {"chr1": 40_300, "chr2": 900, "chr3": 25_000}


def source(**settings: object) -> SignalSource:
    return SignalSource(**{"file": "m", "kind": "cooler", "role": "background", "transform": "log10p1", **settings})


def write_map(path: Path, uri: str = "", bin_bp: int = BIN_BP, depth: float = 3.0, *, balanced: bool = True) -> Path:
    """A map with chance counts near the diagonal, a stretch without any, and masked bins."""
    random = np.random.default_rng(1)
    bins = cooler.binnify(pd.Series(SIZES), bin_bp)
    n_bins = len(bins)
    rows = []
    for first in range(n_bins):
        for second in range(first, min(first + 15, n_bins)):
            same = bins["chrom"][first] == bins["chrom"][second]
            if same and not 20 <= first < 24 and (count := int(random.poisson(depth))):
                rows.append((first, second, count))
    if balanced:
        weight = random.uniform(0.01, 0.3, n_bins)
        weight[[3, 7]] = np.nan
        bins["weight"] = weight
        bins["other"] = weight * 2
    pixels = pd.DataFrame(rows, columns=["bin1_id", "bin2_id", "count"])
    cooler.create_cooler(f"{path}{uri}", bins, pixels, ordered=True, mode="a")
    return path


@pytest.fixture(scope="session")
def contact_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_map(tmp_path_factory.mktemp("contacts") / "map.cool")


@functools.cache
def whole_map(path: Path) -> tuple[pd.DataFrame, dict[tuple[int, int], int]]:
    opened = cooler.Cooler(str(path))
    return opened.bins()[:], {(int(a), int(b)): int(n) for a, b, n in opened.pixels()[:].itertuples(index=False)}


def naive(path: Path, chrom: str, tss: int, window_bp: int, settings: SignalSource) -> tuple[list[float], int]:
    """From the description, base by base: every contact is looked up in the list of pixels."""
    bins, counts = whole_map(path)
    first_bin = int(bins.index[bins["chrom"] == chrom][0])

    @functools.cache
    def of_bin(second: int) -> float:
        pair = sorted((first_bin + tss // BIN_BP, first_bin + second))
        value = float(counts.get((pair[0], pair[1]), 0))
        if settings.balance:
            name = "weight" if settings.balance is True else settings.balance
            value *= bins[name][pair[0]] * bins[name][pair[1]]
        return value

    def contact(base: int) -> float:
        """NaN where a bin is masked."""
        return of_bin(base // BIN_BP)

    near = [contact(base) for base in range(tss - 500, tss + 500) if 0 <= base < SIZES[chrom]]
    none_near = settings.quality and sum(0 if math.isnan(value) else value for value in near) < 0.01
    values, n_missing = [], 0
    for base in range(tss - window_bp // 2, tss + window_bp // 2):
        if not 0 <= base < SIZES[chrom]:
            values.append(0.0)
            continue
        value = contact(base)
        if none_near or math.isnan(value):
            n_missing += 1
            value = 0.0
        if settings.pseudocount == "powerlaw":
            law = [
                math.exp((-4.80 + 11.63 * 0.87) - 0.87 * math.log(max(d, 5000) + 1)) for d in (abs(base - tss), 10**6)
            ]
            value += min(law)
        values.append(math.log10(1 + value) if settings.transform == "log10p1" else value)
    return values, n_missing


@given(
    st.sampled_from(list(SIZES)).flatmap(
        lambda chrom: st.tuples(st.just(chrom), st.lists(st.integers(0, SIZES[chrom] - 1), min_size=1, max_size=4))
    ),
    st.sampled_from([2, 400, 2000, 6000, 60_000]),
    st.sampled_from([True, False, "other"]),
    st.sampled_from(["powerlaw", "none"]),
    st.booleans(),
    st.sampled_from(["log10p1", "none"]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_those_of_the_description(
    contact_map: Path,
    where: tuple[str, list[int]],
    window_bp: int,
    balance: bool | str,
    law: str,
    quality: bool,
    transform: str,
) -> None:
    chrom, tss = where
    wanted = source(balance=balance, pseudocount=law, quality=quality, transform=transform)
    expected = [naive(contact_map, chrom, position, window_bp, wanted) for position in tss]
    with open_signal(wanted, contact_map) as reader:
        found = reader.windows(chrom, np.array(tss), window_bp)
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, [values for values, _ in expected], rtol=1e-5, atol=1e-7)
    assert found.n_missing == sum(missing for _, missing in expected)


def test_spans_of_any_length_give_the_same(contact_map: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tss = np.arange(100, SIZES["chr1"], 700)
    with open_signal(source(), contact_map) as reader:
        whole = reader.windows("chr1", tss, 8000)
        monkeypatch.setattr(contacts, "MAX_SPAN_BINS", 1)
        single = reader.windows("chr1", tss, 8000)
    assert np.array_equal(whole.values, single.values)
    assert whole.n_missing == single.n_missing


def test_a_window_is_the_same_in_a_longer_one_bit_for_bit(contact_map: Path) -> None:
    tss = np.array([0, 450, 20_500, 21_500, 40_299])
    with open_signal(source(), contact_map) as reader:
        short, long = reader.windows("chr1", tss, 200).values, reader.windows("chr1", tss, 20_000).values
    assert np.array_equal(short, long[:, 9900:10_100])


def test_quality_rule_silences_a_gene_without_contacts(contact_map: Path) -> None:
    # Bins 20 to 23 of chr1 have no contact: what remains is the pseudocount.
    with open_signal(source(), contact_map) as reader:
        found = reader.windows("chr1", np.array([21_900]), 4000)
    assert found.n_missing == 4000
    np.testing.assert_allclose(found.values, np.log10(1 + power_law(10**6)), rtol=1e-6)


def test_power_law_by_hand() -> None:
    # exp(5.3181 - 0.87 ln 5001) and exp(5.3181 - 0.87 ln 1000001)
    np.testing.assert_allclose(power_law(np.array([0, 5000, 10**6])), [0.12350, 0.12350, 0.0012300], rtol=2e-3)
    assert pseudocount(np.array([0, 5 * 10**6])).tolist() == [power_law(10**6), power_law(5 * 10**6)]


def test_resolution_of_an_mcool(tmp_path: Path) -> None:
    path = tmp_path / "map.mcool"
    write_map(path, "::/resolutions/1000")
    write_map(path, "::/resolutions/5000", bin_bp=5000)
    with open_signal(source(resolution=5000), path) as reader:
        assert reader.bin_size_bp == 5000
        assert reader.chrom_sizes == SIZES
        row = reader.windows("chr3", np.array([12_500]), 20_000).values[0]
    assert [len(set(row[start : start + 5000])) for start in range(2500, 17_500, 5000)] == [1, 1, 1]


def make_mcool(path: Path) -> Path:
    return write_map(path.with_suffix(".mcool"), "::/resolutions/1000")


def make_text(path: Path) -> Path:
    path.write_text("chr1 0 5\n")
    return path


def make_truncated(path: Path) -> Path:
    write_map(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def make_unbalanced(path: Path) -> Path:
    return write_map(path, balanced=False)


def make_bins_of_several_sizes(path: Path) -> Path:
    bins = pd.DataFrame({"chrom": ["chr1"] * 3, "start": [0, 10, 15], "end": [10, 15, 40]})
    cooler.create_cooler(str(path), bins, pd.DataFrame({"bin1_id": [0], "bin2_id": [1], "count": [1]}), ordered=True)
    return path


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (lambda path: path, {}, "no such file; give a .cool or .mcool file"),
        (make_text, {}, "is not a cooler file, or is cut short"),
        (make_truncated, {}, "is not a cooler file, or is cut short"),
        (make_mcool, {}, "holds several resolutions and none is asked for; set resolution to one of 1000"),
        (make_mcool, {"resolution": 5000}, "has no resolution 5000; set resolution to one of 1000"),
        (write_map, {"resolution": 5000}, "has no resolution 5000; set resolution to 1000, or leave it out"),
        (
            make_unbalanced,
            {},
            "has no balancing weights 'weight'; balance the map with `cooler balance`, or set balance: false",
        ),
        (write_map, {"balance": "VC"}, "has no balancing weights 'VC'; name one of its columns other, weight, "),
        (make_bins_of_several_sizes, {"balance": False}, "has bins of several sizes"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(tmp_path: Path, make, settings: dict[str, object], message: str) -> None:
    path = make(tmp_path / "map.cool")
    with pytest.raises(CatalogError) as caught:
        open_signal(source(**settings), path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_unknown_chromosome_is_refused(contact_map: Path) -> None:
    with open_signal(source(), contact_map) as reader, pytest.raises(CatalogError, match="has no chromosome '1'"):
        reader.windows("1", np.array([4]), 6)


@pytest.mark.parametrize(("near", "silent"), [(0.0099, True), (0.0101, False)])
def test_quality_rule_sums_contacts_over_the_1000_bases_at_the_tss(tmp_path: Path, near: float, silent: bool) -> None:
    bins = cooler.binnify(pd.Series({"chr1": 3000}), BIN_BP)
    bins["weight"] = math.sqrt(near / 1000)
    pixels = pd.DataFrame({"bin1_id": [1, 1], "bin2_id": [1, 2], "count": [1, 500]})
    cooler.create_cooler(str(tmp_path / "map.cool"), bins, pixels, ordered=True)
    with open_signal(source(pseudocount="none"), tmp_path / "map.cool") as reader:
        found = reader.windows("chr1", np.array([1500]), 2000)
    assert found.n_missing == (2000 if silent else 0)
    assert found.values.any() != silent


def test_a_gene_in_a_masked_bin_has_no_contacts(contact_map: Path) -> None:
    wanted = source(quality=False, pseudocount="none")
    with open_signal(wanted, contact_map) as reader:
        found = reader.windows("chr1", np.array([3500]), 2000)
    assert found.n_missing == 2000
    assert not found.values.any()
