from __future__ import annotations

import decimal
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalog_edits import set_field, set_label
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.errors import CatalogError, FaultList
from prism_ray.features.catalog import check_catalog, load_catalog
from prism_ray.features.tables import numbers, read_table


def read(path: Path, *columns: str) -> pd.DataFrame:
    faults = FaultList()
    table = read_table(path, columns or None, "here", faults)
    faults.raise_if_any(CatalogError)
    assert table is not None
    return table


def parsed(texts: pd.Series) -> np.ndarray:
    faults = FaultList()
    values = numbers(texts, "it", "here", faults)
    faults.raise_if_any(CatalogError)
    return values


@settings(max_examples=30)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_of_parquet_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    path = tmp_path_factory.mktemp("table") / "a.parquet"
    with np.errstate(over="ignore"):
        single = np.array(values, dtype=np.float64).astype(np.float32)
    single[~np.isfinite(single)] = 0
    pd.DataFrame({"double": values, "single": single}).to_parquet(path)
    table = read(path)
    assert parsed(table["double"]).tolist() == values
    assert (parsed(table["single"]).astype(np.float32) == single).all()


def test_types_of_parquet(tmp_path: Path) -> None:
    content = pa.table(
        {
            "whole": pa.array([1, None, 2**60 + 1], pa.int64()),
            "number": pa.array([0.1, None, math.nan], pa.float64()),
            "half": pa.array(np.array([0.1, 1, 2], dtype=np.float16)),
            "text": pa.array(["01", None, "NA"]),
            "bytes": pa.array([b"chr1", None, b"chr2"]),
            "category": pa.array(["+", None, "-"]).dictionary_encode(),
            "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.00")]),
            "nothing": pa.nulls(3),
        }
    )
    pq.write_table(content, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").to_dict("list") == {
        "whole": ["1", "", "1152921504606846977"],
        "number": ["0.1", "", "nan"],
        "half": [repr(float(np.float16(0.1))), "1.0", "2.0"],
        "text": ["01", "", "NA"],
        "bytes": ["chr1", "", "chr2"],
        "category": ["+", "", "-"],
        "decimal": ["1.50", "", "2.00"],
        "nothing": ["", "", ""],
    }


def test_an_index_with_a_name_is_a_column(tmp_path: Path) -> None:
    table = pd.DataFrame({"gene_id": ["A", "B"], "K562": [1.5, 2.0]})
    table.set_index("gene_id").to_parquet(tmp_path / "named.pq")
    assert read(tmp_path / "named.pq", "gene_id", "K562").to_dict("list") == {
        "gene_id": ["A", "B"],
        "K562": ["1.5", "2.0"],
    }
    table.set_index(["gene_id", "K562"], drop=False).rename_axis([None, None]).to_parquet(tmp_path / "unnamed.pq")
    assert list(read(tmp_path / "unnamed.pq").columns) == ["gene_id", "K562"]
    table.to_parquet(tmp_path / "plain.pq")
    assert list(read(tmp_path / "plain.pq").columns) == ["gene_id", "K562"]


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "chrom=chr7"
    folder.mkdir()
    pd.DataFrame({"gene_id": ["A"]}).to_parquet(folder / "a.parquet")
    assert list(read(folder / "a.parquet").columns) == ["gene_id"]


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"gene_id": [f"G{number}" for number in range(500)], "x": np.arange(500.0)}).to_parquet(path)
    whole = path.read_bytes()
    spoilt = {"cut": whole[:-100], "empty": b"", "text": b"gene_id\tx\n", "body": b"PAR1" + b"\x07" * 40 + whole[44:]}
    for content in spoilt.values():
        path.write_bytes(content)
        with pytest.raises(CatalogError, match=r"here: .*a.parquet cannot be read as a table \("):
            read(path)


def test_columns_and_names_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"gene_id": ["A"], "K562": [1.0]}).to_parquet(path)
    with pytest.raises(CatalogError, match=r"has no column 'K526'; use one of K562, gene_id. Did you mean 'K562'"):
        read(path, "K526")
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(CatalogError, match=r"a.parquet cannot be read as a table .*Multiple matches"):
        read(path, "a")
    pd.DataFrame({"gene_id": []}).to_parquet(path)
    with pytest.raises(CatalogError, match=r"a.parquet holds no rows"):
        read(path)
    path.rename(tmp_path / "a.parquet.gz")
    with pytest.raises(CatalogError, match=r"is neither TSV, CSV nor Parquet by its name"):
        read(tmp_path / "a.parquet.gz")


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_a_column_that_is_there_twice(tmp_path: Path, name: str) -> None:
    separator = "\t" if name.endswith("tsv") else ","
    (tmp_path / name).write_text("gene_id,K562,K562\nA,1,2\n".replace(",", separator))
    with pytest.raises(CatalogError, match=f"{name} has the column 'K562' twice; keep one"):
        read(tmp_path / name, "gene_id", "K562")
    assert read(tmp_path / name, "gene_id").to_dict("list") == {"gene_id": ["A"]}


def test_rows_that_do_not_fit_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffgene_id,K562\nA,1\nB\n")
    assert read(path, "gene_id", "K562").to_dict("list") == {"gene_id": ["A", "B"], "K562": ["1", ""]}
    path.write_text("gene_id,K562\nA,1,\nB,2,\n")
    with pytest.raises(CatalogError, match=r"a.csv cannot be read as a table .*Expected 2 fields in line 2, saw 3"):
        read(path)


def test_a_catalog_of_parquet_tables_says_what_its_text_says(genome_copy: Path) -> None:
    plain = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    for name in ("genes", "labels", "folds"):
        pd.read_csv(genome_copy / f"{name}.tsv", sep="\t").to_parquet(genome_copy / f"{name}.parquet")
    set_field("genes", {"table": "genes.parquet"})(genome_copy)
    set_field("folds", {"table": "folds.parquet"})(genome_copy)
    set_label(table="labels.parquet")(genome_copy)
    found = check_catalog(load_catalog(genome_copy / "catalog.yaml"), 2000)
    assert found.folds == plain.folds
    pd.testing.assert_frame_equal(found.cell_types["K562"].genes, plain.cell_types["K562"].genes)
