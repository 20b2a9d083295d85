from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism_ray.errors import FaultList, StoreError
from prism_ray.store.layout import Layout
from prism_ray.store.precision import LARGEST_FLOAT16, Rounding, check_loss, measure_rounding
from prism_ray.store.write import PartitionWriter
from tests.store.factory import Partition, Recipe, make_rows, make_store, part_of, write_partition

LAYOUT = Recipe(window_bp=4000).layout("K562")


def test_columns_and_types(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=4000))
    schema = pq.read_schema(tmp_path / "store/cell_type=K562/chrom=chr1/part-0.parquet")
    types = {field.name: field.type for field in schema}
    assert list(types)[:6] == ["gene_id", "gene_name", "tss", "strand", "label", "scalars"]
    assert (types["tss"], types["label"]) == (pa.int64(), pa.float32())
    assert types["scalars"] == pa.fixed_shape_tensor(pa.float32(), (2,))
    assert types["sequence__0_1000"] == pa.fixed_shape_tensor(pa.uint8(), (2000,))
    assert types["dnase__1000_2000"] == pa.fixed_shape_tensor(pa.float16(), (2000,))
    assert types["hic__1000_2000"] == pa.fixed_shape_tensor(pa.float32(), (2000,))
    assert len(types) == 6 + 4 * 2


def test_any_parquet_reader_gets_the_ring_left_part_first(tmp_path: Path) -> None:
    partitions = make_store(tmp_path / "store", Recipe(window_bp=4000))
    table = pq.read_table(tmp_path / "store/cell_type=K562/chrom=chr1/part-0.parquet", partitioning=None)
    given = table["hic__1000_2000"].combine_chunks().to_numpy_ndarray()
    window = partitions[0].rows.signals["hic"]
    np.testing.assert_array_equal(given[:, :1000], window[:, :1000])
    np.testing.assert_array_equal(given[:, 1000:], window[:, 3000:])


def test_without_scalars_and_dna_there_are_no_such_columns() -> None:
    names = Layout(2000, (("dnase", "float32"),), has_sequence=False, n_scalars=0).schema().names
    assert names == ["gene_id", "gene_name", "tss", "strand", "label", "dnase__0_1000"]


@pytest.mark.parametrize(
    ("window_bp", "n_signals", "rows"),
    [(2, 0, 64), (2000, 3, 64), (200_000, 8, 64), (1_000_000, 2, 64), (1_000_000, 3, 32), (2_000_000, 8, 16)],
)
def test_rows_of_a_row_group(window_bp: int, n_signals: int, rows: int) -> None:
    signals = tuple((f"s{number}", "float32") for number in range(n_signals))
    layout = Layout(window_bp, signals, has_sequence=True, n_scalars=0)  # type: ignore[arg-type]
    assert [group.stop - group.start for group in layout.row_groups(150)][:2] == [rows, rows]


def test_row_groups_cover_all_genes() -> None:
    groups = list(LAYOUT.row_groups(150))
    assert [group.stop - group.start for group in groups] == [64, 64, 22]
    assert list(LAYOUT.row_groups(0)) == []


def test_a_file_that_is_not_closed_leaves_nothing(tmp_path: Path) -> None:
    with PartitionWriter(tmp_path, "K562", "chr1", LAYOUT) as writer:
        writer.write(make_rows(Recipe(window_bp=4000), "K562", "chr1"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_chromosome_names_that_a_file_system_refuses(tmp_path: Path) -> None:
    recipe = Recipe(window_bp=10, chroms=("HLA-A*01:01/x",), cell_types=("K562",))
    make_store(tmp_path / "store", recipe)
    assert (tmp_path / "store/cell_type=K562/chrom=HLA-A%2A01%3A01%2Fx/part-0.parquet").is_file()


def test_the_content_digest_depends_on_no_row_group(tmp_path: Path) -> None:
    recipe = Recipe(window_bp=10, n_genes=9)
    rows = make_rows(recipe, "K562", "chr1")
    layout = recipe.layout("K562")
    whole = write_partition(tmp_path / "one", layout, Partition("K562", "chr1", rows)).entry
    with PartitionWriter(tmp_path / "two", "K562", "chr1", layout) as writer:
        for part in (slice(0, 4), slice(4, 9)):
            writer.write(part_of(rows, part))
        parts = writer.close()
    assert parts.content_sha256 == whole.content_sha256
    assert parts.sha256 != whole.sha256


def test_values_beyond_float16_are_refused_by_name(tmp_path: Path) -> None:
    recipe = Recipe(window_bp=10, signals={"a": "float16", "b": "float16", "c": "float32"})
    rows = make_rows(recipe, "K562", "chr1")
    rows.signals["a"][2, 3] = -70_000.0
    rows.signals["b"][0, 0] = np.inf
    rows.signals["c"][0, 0] = 1e9
    with PartitionWriter(tmp_path, "K562", "chr1", recipe.layout("K562")) as writer:
        with pytest.raises(StoreError) as error:
            writer.write(rows)
    assert [str(fault) for fault in error.value.faults] == [
        "K562.signals.a on chr1: has a value of size 70000, float16 ends at 65504; "
        "set dtype: float32, or a transform such as log10p1",
        "K562.signals.b on chr1: has a value of size inf, float16 ends at 65504; "
        "set dtype: float32, or a transform such as log10p1",
    ]


def test_the_largest_float16_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(window_bp=10, signals={"a": "float16"})
    rows = make_rows(recipe, "K562", "chr1")
    rows.signals["a"][:] = LARGEST_FLOAT16
    with PartitionWriter(tmp_path, "K562", "chr1", recipe.layout("K562")) as writer:
        assert writer.write(rows)["a"].largest_error == 0.0


def test_rounding_is_measured() -> None:
    values = np.random.default_rng(0).gamma(2.0, 3.0, (50, 40)).astype(np.float32)
    error = values.astype(np.float64) - values.astype(np.float16).astype(np.float64)
    measured = measure_rounding(values)
    assert measured.loss == pytest.approx(np.sqrt(np.mean(error**2)) / values.std(dtype=np.float64))
    assert measured.largest_error == np.abs(error).max()
    assert measured.largest == values.max()


def test_rounding_of_parts_adds_up() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, (30, 10)).astype(np.float32)
    parts = measure_rounding(values[:11]) + measure_rounding(values[11:])
    whole = measure_rounding(values)
    assert parts.loss == pytest.approx(whole.loss)
    assert (parts.n, parts.largest, parts.largest_error) == (whole.n, whole.largest, whole.largest_error)


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        (np.zeros(100), True),
        (np.full(100, 0.1), True),
        (np.random.default_rng(0).random(1000), True),
        (np.arange(2000.0), True),
        (30_000 + np.random.default_rng(0).random(1000), False),
        (1e-9 * np.random.default_rng(0).random(1000), False),
    ],
    ids=["zeros", "constant", "uniform", "whole numbers", "small changes of a large value", "below the smallest"],
)
def test_a_lossy_float16_is_refused(values: np.ndarray, allowed: bool) -> None:
    faults = FaultList()
    check_loss(measure_rounding(values.astype(np.float32)), "K562.signals.a", faults)
    assert bool(faults) is not allowed
    if not allowed:
        assert "of its standard deviation as float16, at most 0.01 is allowed" in faults.faults[0].problem


def test_nothing_measured_loses_nothing() -> None:
    assert Rounding().loss == 0.0
