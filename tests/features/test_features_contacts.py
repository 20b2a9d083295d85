from __future__ import annotations

import functools
import math
from pathlib import Path

import cooler
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features import contact_pixels, contacts
from prism_ray.features.contacts import power_law, pseudocount
from prism_ray.features.signals import open_signal
from prism_ray.features.source_parts import SignalSource

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
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_pseudocount_differs_from_base_to_base_beyond_its_cap(tmp_path: Path) -> None:
    size, tss, half = 2_600_000, 1_300_000, 1_200_000
    bins = cooler.binnify(pd.Series({"chr1": size}), 100_000)
    pixels = pd.DataFrame({"bin1_id": [5, 13], "bin2_id": [13, 14], "count": [2, 3]})
    cooler.create_cooler(str(tmp_path / "map.cool"), bins, pixels, ordered=True)
    wanted = source(balance=False, quality=False, transform="none")
    with open_signal(wanted, tmp_path / "map.cool") as reader:
        found = reader.windows("chr1", np.array([tss]), 2 * half).values[0]
    contact = np.zeros(2 * half)
    contact[400_000:500_000], contact[1_300_000:1_400_000] = 2, 3
    expected = contact + pseudocount(np.abs(np.arange(-half, half)))
    assert np.array_equal(found, expected.astype(np.float32))
    assert found[0] < found[half]


def test_contacts_at_the_edge_of_the_band_are_kept(tmp_path: Path) -> None:
    # A TSS at the end of its bin and a window that ends with the first base of a bin further on.
    bins = cooler.binnify(pd.Series({"chr1": 10 * BIN_BP}), BIN_BP)
    pixels = pd.DataFrame({"bin1_id": [2, 3, 5], "bin2_id": [5, 5, 8], "count": [7, 11, 13]})
    cooler.create_cooler(str(tmp_path / "map.cool"), bins, pixels, ordered=True)
    wanted = source(balance=False, quality=False, pseudocount="none", transform="none")
    with open_signal(wanted, tmp_path / "map.cool") as reader:
        late = reader.windows("chr1", np.array([6 * BIN_BP - 1]), 2 * (2 * BIN_BP + 2)).values[0]
        early = reader.windows("chr1", np.array([5 * BIN_BP]), 2 * (2 * BIN_BP + 1)).values[0]
    assert late[-1] == 13
    assert early[0] == 7


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


def make_damaged_names(path: Path) -> Path:
    """HDF5 keeps the names of a group in heaps, each behind its mark; the place of the first free byte is lost."""
    content = bytearray(write_map(path).read_bytes())
    start = content.index(b"HEAP") + 16
    content[start : start + 8] = b"\x01" * 8
    path.write_bytes(bytes(content))
    return path


def make_damaged_groups(path: Path) -> Path:
    """What HDF5 notes of each group."""
    write_map(path)
    with h5py.File(path) as file:
        start = h5py.h5o.get_info(file["chroms"].id).addr
    content = bytearray(path.read_bytes())
    content[start : start + 16] = b"\0" * 16
    path.write_bytes(bytes(content))
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
        (make_damaged_names, {}, "is not a cooler file, or is cut short"),
        (make_damaged_groups, {}, "is not a cooler file, or is cut short"),
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


def write_small(path: Path, matrix: dict[tuple[int, int], int], *, square: bool = False, **columns: object) -> Path:
    """chr1 of bins 0 to 3, chr2 of bins 4 and 5."""
    sizes = pd.Series({"chr1": 4000, "chr2": 1500})
    bins = cooler.binnify(sizes, BIN_BP).assign(**columns)
    rows = sorted((a, b, n) for (a, b), n in matrix.items())
    pixels = pd.DataFrame(rows, columns=["bin1_id", "bin2_id", "count"])
    cooler.create_cooler(str(path), bins, pixels, ordered=True, symmetric_upper=not square, triucheck=not square)
    return path


# Contacts within chr1, one within chr2 and some between them; bin 3 has contacts with chr2 alone.
SMALL = {(0, 0): 4, (0, 1): 6, (0, 5): 90, (1, 1): 2, (1, 2): 5, (2, 2): 7, (3, 4): 80, (4, 4): 3}


@pytest.mark.parametrize(("marginal", "power"), [("vc", 1.0), ("vc_sqrt", 0.5)])
@pytest.mark.parametrize("pixels_a_read", [1, 3, 2_000_000])
def test_vanilla_coverage_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marginal: str, power: float, pixels_a_read: int
) -> None:
    monkeypatch.setattr(contact_pixels, "PIXELS_A_READ", pixels_a_read)
    path = write_small(tmp_path / "map.cool", SMALL)
    dense = np.array([[4, 6, 0, 0], [6, 2, 5, 0], [0, 5, 7, 0], [0, 0, 0, 0]], dtype=np.float64)
    margins = np.array([10.0, 13.0, 12.0])  # of chr1 alone
    expected = np.zeros((4, 4))
    for i in range(3):
        for j in range(3):
            expected[i, j] = dense[i, j] / (margins[i] * margins[j]) ** power
    expected *= dense.sum() / expected.sum()
    wanted = source(balance=False, marginal=marginal, pseudocount="none", quality=False, transform="none")
    with open_signal(wanted, path) as reader:
        assert reader.backend == "cooler"
        for first in range(4):
            found = reader.windows("chr1", np.array([first * BIN_BP + 500]), 8000)
            row = np.zeros(8000)
            for base in range(8000):
                position = first * BIN_BP + 500 - 4000 + base
                if 0 <= position < 4000:
                    row[base] = expected[first, position // BIN_BP]
            np.testing.assert_allclose(found.values[0], row, rtol=1e-6)
            # Bin 3 has no contact on its chromosome: it is masked.
            inside = [max(first * BIN_BP + 500 - 4000, 0), min(first * BIN_BP + 4500, 4000)]
            in_bin_3 = max(inside[1] - max(inside[0], 3000), 0)
            assert found.n_missing == (inside[1] - inside[0] if first == 3 else in_bin_3)
        # The scale keeps the chromosome's total: one contact alone stays what it is.
        assert reader.windows("chr2", np.array([10]), 2).values.tolist() == [[3.0, 3.0]]


def test_margins_of_a_chromosome_are_summed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summed = []
    real = contact_pixels.ContactPixels.sums
    monkeypatch.setattr(
        contact_pixels.ContactPixels, "sums", lambda self, *given: summed.append(len(given)) or real(self, *given)
    )
    with open_signal(source(balance=False, marginal="vc"), write_small(tmp_path / "map.cool", SMALL)) as reader:
        for _ in range(3):
            reader.windows("chr1", np.array([500, 3500]), 2000)
    assert summed == [0, 1]


def test_a_chromosome_without_contacts_is_all_missing(tmp_path: Path) -> None:
    path = write_small(tmp_path / "map.cool", {(0, 0): 4, (0, 4): 3})
    with open_signal(source(balance=False, marginal="vc"), path) as reader:
        assert reader.windows("chr2", np.array([700]), 2000).n_missing == 1500


@pytest.mark.parametrize("name", ["VC", "KR", "VC_SQRT", "weight", "other"])
def test_stored_weights_by_name_are_taken_as_cooler_takes_them(tmp_path: Path, name: str) -> None:
    """Bit for bit; VC, KR and VC_SQRT of hic2cool are divisors, other columns are factors."""
    weight = np.array([0.7, 1.9, np.nan, 0.3, 1.1, 0.9])
    path = write_small(tmp_path / "map.cool", SMALL, **{name: weight})
    expected = cooler.Cooler(str(path)).matrix(balance=name).fetch("chr1")
    by_hand = 6 / (0.7 * 1.9) if name in contacts.DIVISIVE_WEIGHTS else 6 * 0.7 * 1.9
    np.testing.assert_allclose(expected[0, 1], by_hand)
    wanted = source(balance=name, pseudocount="none", quality=False, transform="none")
    with open_signal(wanted, path) as reader:
        for first in range(4):
            found = reader.windows("chr1", np.array([first * BIN_BP]), 8000)
            row = np.nan_to_num(expected[first]).astype(np.float32).repeat(BIN_BP)
            low = 4000 - first * BIN_BP
            assert np.array_equal(found.values[0, low : low + 4000], row)


def test_a_divisor_of_zero_is_a_masked_bin(tmp_path: Path) -> None:
    path = write_small(tmp_path / "map.cool", SMALL, VC=np.array([0.7, 1.9, 0.0, 0.3, 1.1, 0.9]))
    with open_signal(source(balance="VC", quality=False), path) as reader:
        assert reader.windows("chr1", np.array([1000]), 4000).n_missing == 1000


def test_a_square_map_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_small(tmp_path / "map.cool", {(0, 1): 6, (1, 0): 2, (1, 1): 1, (2, 0): 9, (4, 0): 5}, square=True)
    wanted = source(balance=False, pseudocount="none", quality=False, transform="none")
    with open_signal(wanted, path) as reader:
        rows = [reader.windows("chr1", np.array([at]), 8000).values[0, 4000 - at :: 1000] for at in (0, 1000, 2000)]
    assert [row[:3].tolist() for row in rows] == [[0, 6, 0], [2, 1, 0], [9, 0, 0]]


@given(st.integers(1, 400), st.sampled_from([True, False, "other"]), st.sampled_from(list(SIZES)))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bits_are_those_of_coolers_matrix(
    contact_map: Path, monkeypatch: pytest.MonkeyPatch, pixels_a_read: int, balance: bool | str, chrom: str
) -> None:
    expected = np.nan_to_num(cooler.Cooler(str(contact_map)).matrix(balance=balance).fetch(chrom).astype(np.float64))
    wanted = source(balance=balance, pseudocount="none", quality=False, transform="none")
    tss = np.arange(0, SIZES[chrom], 700)
    with monkeypatch.context() as patch, open_signal(wanted, contact_map) as reader:
        patch.setattr(contact_pixels, "PIXELS_A_READ", pixels_a_read)
        found = reader.windows(chrom, tss, 6000).values
    for position, row in zip(tss.tolist(), found, strict=True):
        bases = np.arange(position - 3000, position + 3000)
        inside = (bases >= 0) & (bases < SIZES[chrom])
        along = expected[position // BIN_BP][bases[inside] // BIN_BP].astype(np.float32)
        assert np.array_equal(row[inside], along)
        assert not row[~inside].any()


@pytest.mark.parametrize("tss", [-1, 900])
def test_a_tss_outside_its_chromosome_is_refused(contact_map: Path, tss: int) -> None:
    with open_signal(source(), contact_map) as reader, pytest.raises(CatalogError) as caught:
        reader.windows("chr2", np.array([5, tss]), 200)
    assert f"map.cool: chr2:{tss}: the TSS lies outside chr2, of 900 bp" in str(caught.value)


def test_damage_behind_the_header_is_refused_when_read(tmp_path: Path) -> None:
    path = write_map(tmp_path / "map.cool")
    with h5py.File(path) as file:
        chunk = file["pixels/bin2_id"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(bytes(content))
    with open_signal(source(), path) as reader, pytest.raises(CatalogError, match="the file is damaged; restore it"):
        reader.windows("chr1", np.array([5000]), 2000)


def test_infinite_contacts_are_refused(tmp_path: Path) -> None:
    path = write_small(tmp_path / "map.cool", SMALL, weight=np.array([np.inf, 1.0, 1.0, 1.0, 1.0, 1.0]))
    with open_signal(source(), path) as reader, pytest.raises(CatalogError, match="has a contact that is infinite"):
        reader.windows("chr1", np.array([500]), 200)


@pytest.mark.parametrize(
    ("name", "chrom"), [("GM12878_MboI_subsample100k_100kb.hg19.cool", "1"), ("GM12878_chr22_50kb_prim.hg19.cool", "")]
)
def test_real_maps_bit_for_bit(real_pack: Path, name: str, chrom: str) -> None:
    opened = cooler.Cooler(str(real_pack / "hic" / name))
    chrom = next(each for each in opened.chromnames if each.removeprefix("chr") == (chrom or "22"))
    expected = opened.matrix(balance=False).fetch(chrom)
    size, width = int(opened.chromsizes[chrom]), opened.binsize
    wanted = source(balance=False, pseudocount="none", quality=False, transform="none")
    tss = np.random.default_rng(0).integers(0, size, 20)
    with open_signal(wanted, real_pack / "hic" / name) as reader:
        found = reader.windows(chrom, tss, 1_000_000).values[:, ::1000]
    for position, row in zip(tss.tolist(), found, strict=True):
        bases = np.arange(position - 500_000, position + 500_000, 1000)
        inside = (bases >= 0) & (bases < size)
        assert np.array_equal(row[inside], expected[position // width][bases[inside] // width].astype(np.float32))
    assert found.any()
