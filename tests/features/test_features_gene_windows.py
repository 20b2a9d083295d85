from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError
from prism_ray.features.gene_windows import GeneWindowReader
from prism_ray.features.signals import open_signal
from prism_ray.features.source_parts import SignalSource

FILE = "hic_feat_{chrom}.h5"


def source(transform: str = "none") -> SignalSource:
    return SignalSource(file=FILE, kind="gene_windows", role="background", transform=transform)


def write(folder: Path, genes: dict[str, dict[int, object]]) -> Path:
    """Data sets by chromosome and TSS; the path with {chrom}."""
    for chrom, sets in genes.items():
        with h5py.File(folder / FILE.replace("{chrom}", chrom), "w") as file:
            for tss, values in sets.items():
                file[f"{chrom}_{tss}"] = values
    return folder / FILE


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_are_those_of_looking_up_base_by_base(tmp_path: Path, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 60))
    length = data.draw(st.integers(2, 40))
    half = data.draw(st.integers(1, min(length // 2, length - length // 2)))
    known = data.draw(st.booleans())
    tss = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
    numbers = st.floats(0, 100, width=32) | st.just(float("nan"))
    sets = {t: np.array(data.draw(st.lists(numbers, min_size=length, max_size=length))) for t in set(tss)}
    expected, n_missing = [], 0
    for t in tss:
        row = []
        for base in range(t - half, t + half):
            value = sets[t][length // 2 + base - t]
            inside = 0 <= base and (not known or base < size)
            n_missing += int(inside and np.isnan(value))
            row.append(np.log10(1 + value) if inside and not np.isnan(value) else 0.0)
        expected.append(row)
    path = write(tmp_path, {"chr1": sets})
    with open_signal(source("log10p1"), path, {"chr1": size} if known else None) as reader:
        assert reader.backend == "h5py"
        assert reader.chrom_sizes == {"chr1": max(tss) + 1}
        found = reader.windows("chr1", np.array(tss, dtype=np.int64), 2 * half)
    assert found.values.dtype == np.float32
    assert found.n_missing == n_missing
    np.testing.assert_array_equal(found.values, np.array(expected, dtype=np.float32))


def test_the_middle_is_the_tss(tmp_path: Path) -> None:
    path = write(tmp_path, {"chr2": {1000: np.arange(10, dtype=np.float32)}, "chrX": {7: np.arange(4)}})
    with open_signal(source(), path) as reader:
        assert reader.chrom_sizes == {"chr2": 1001, "chrX": 8}
        assert reader.windows("chr2", np.array([1000]), 4).values.tolist() == [[3, 4, 5, 6]]
        assert reader.windows("chrX", np.array([7]), 2).values.tolist() == [[1, 2]]


def test_which_genes_are_held(tmp_path: Path) -> None:
    with GeneWindowReader(write(tmp_path, {"chr1": {5: [1.0], 9: [1.0]}}), "none") as reader:
        assert reader.holds("chr1", np.array([9, 6, 5])).tolist() == [True, False, True]
        assert reader.holds("chr2", np.array([9])).tolist() == [False]


@pytest.mark.parametrize(
    ("values", "transform", "window_bp", "message"),
    [
        (np.ones(10), "none", 12, "hic_feat_chr1.h5: chr1:50: holds 10 values, the window is of 12 bp; use window_bp"),
        (np.ones(9), "none", 10, "holds 9 values, the window is of 10 bp; use window_bp of at most 8"),
        (np.ones((5, 2)), "none", 2, "chr1:50: is no row of numbers"),
        (np.array([b"a", b"b"]), "none", 2, "chr1:50: is no row of numbers"),
        (np.array([1.0, np.inf]), "none", 2, "chr1:50: the value inf cannot be used with transform none"),
        (np.array([1.0, -1.0]), "log1p", 2, "chr1:50: the value -1.0 cannot be used with transform log1p"),
    ],
)
def test_data_sets_that_cannot_be_used(
    tmp_path: Path, values: object, transform: str, window_bp: int, message: str
) -> None:
    path = write(tmp_path, {"chr1": {50: values}})
    with open_signal(source(transform), path) as reader, pytest.raises(CatalogError) as caught:
        reader.windows("chr1", np.array([50]), window_bp)
    assert message in str(caught.value)


def test_genes_and_chromosomes_that_are_not_there(tmp_path: Path) -> None:
    with open_signal(source(), write(tmp_path, {"chr1": {50: [1.0, 2.0]}})) as reader:
        with pytest.raises(CatalogError, match=r"hic_feat_chr1.h5: chr1:51: there is no data set 'chr1_51'; give a"):
            reader.windows("chr1", np.array([51]), 2)
        with pytest.raises(CatalogError, match="has no chromosome 'chr2'; use one of chr1"):
            reader.windows("chr2", np.array([50]), 2)
        with pytest.raises(CatalogError, match="7 is not a length of a window"):
            reader.windows("chr1", np.array([50]), 7)


def spoil_text(folder: Path) -> None:
    (folder / "hic_feat_chr1.h5").write_text("no HDF5")


def spoil_truncated(folder: Path) -> None:
    path = folder / "hic_feat_chr1.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_missing(folder: Path) -> None:
    (folder / "hic_feat_chr1.h5").rename(folder / "other.h5")


def spoil_names(folder: Path) -> None:
    with h5py.File(folder / "hic_feat_chr1.h5", "w") as file:
        file["gene7"] = [1.0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_text, "hic_feat_chr1.h5: cannot be opened as HDF5"),
        (spoil_truncated, "hic_feat_chr1.h5: cannot be opened as HDF5"),
        (spoil_missing, "hic_feat_{chrom}.h5: no such file for any chromosome; give one file a chromosome"),
        (spoil_names, "hic_feat_chr1.h5: holds no data set named chr1_<tss>"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, spoil, message: str) -> None:
    path = write(tmp_path, {"chr1": {50: np.ones(1000)}})
    spoil(tmp_path)
    with pytest.raises(CatalogError) as caught:
        open_signal(source(), path)
    assert message in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such file for any chromosome"):
        open_signal(source(), tmp_path / "nowhere" / FILE)


def test_damage_within_a_data_set(tmp_path: Path) -> None:
    values = np.random.default_rng(0).gamma(1, 1, 5000)
    with h5py.File(tmp_path / "hic_feat_chr1.h5", "w") as file:
        file.create_dataset("chr1_50", data=values, compression="gzip", chunks=(5000,))
        offset = file["chr1_50"].id.get_chunk_info(0).byte_offset
    path = tmp_path / "hic_feat_chr1.h5"
    content = bytearray(path.read_bytes())
    content[offset + 500 : offset + 900] = b"\xff" * 400
    path.write_bytes(bytes(content))
    with open_signal(source(), tmp_path / FILE) as reader, pytest.raises(CatalogError) as caught:
        reader.windows("chr1", np.array([50]), 2)
    assert "chr1:50: cannot be read (" in str(caught.value)
