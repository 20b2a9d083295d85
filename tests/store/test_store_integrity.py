from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import prism_ray.store
from prism_ray.errors import StoreError
from tests.store.factory import Recipe, make_store

RECIPE = Recipe(window_bp=3000, cell_types=("K562",), chroms=("chr1", "chr2"))
FIRST = "cell_type=K562/chrom=chr1/part-0.parquet"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("original") / "store"
    make_store(path, RECIPE)
    return path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def change_json(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = store / "store.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(bytes(data))


def page_of(path: Path, column: str) -> int:
    """Offset in the middle of a column's data."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema.startswith(column):
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            return int(start + chunk.total_compressed_size // 2)
    raise KeyError(column)


def test_a_sound_store_passes(original: Path) -> None:
    prism_ray.store.open(original).verify()


def test_same_data_gives_the_same_bytes(original: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "again", RECIPE)
    for path in sorted(original.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(original)).read_bytes(), path


def test_the_digest_does_not_depend_on_where_the_store_is(original: Path, copy: Path) -> None:
    assert prism_ray.store.open(original).digest == prism_ray.store.open(copy).digest


def changed(**changes: object) -> Recipe:
    return Recipe(**{**vars(RECIPE), **changes})


@pytest.mark.parametrize(
    "recipe",
    [
        changed(seed=1),
        changed(scale=1.5),
        changed(window_bp=2998),
        changed(signals={**RECIPE.signals, "dnase": "float32"}),
        changed(scalars=("utr5_len", "utr3_gc")),
        changed(sequence=False),
        changed(lacking={"K562": "hic"}),
        changed(folds={"fold_1": {"chr1": "test", "chr2": "validation"}}),
        changed(n_genes=5),
    ],
)
def test_the_digest_depends_on_the_data(original: Path, tmp_path: Path, recipe: Recipe) -> None:
    make_store(tmp_path / "other", recipe)
    assert prism_ray.store.open(tmp_path / "other").digest != prism_ray.store.open(original).digest


def test_the_digest_does_not_depend_on_the_version_of_the_builder(original: Path) -> None:
    description = prism_ray.store.open(original).description
    files = tuple(entry.model_copy(update={"sha256": "1" * 64, "bytes": 1}) for entry in description.files)
    other = description.model_copy(update={"builder_version": "9.9", "name": "renamed", "files": files})
    assert other.digest() == description.digest()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"nowhere: no such folder; give the folder that `prism-ray build --out` wrote"
    ):
        prism_ray.store.open(tmp_path / "nowhere")


def test_unfinished(copy: Path) -> None:
    (copy / "_SUCCESS").unlink()
    with pytest.raises(StoreError, match="has no _SUCCESS mark: it is no store, or its build did not end; build it"):
        prism_ray.store.open(copy)


def test_without_description(copy: Path) -> None:
    (copy / "store.json").unlink()
    with pytest.raises(StoreError, match=r"store\.json: no such file; the store is damaged"):
        prism_ray.store.open(copy)


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_description_that_is_no_json_object(copy: Path, text: str) -> None:
    (copy / "store.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError, match=r"store\.json: (cannot be read as JSON|holds no description)"):
        prism_ray.store.open(copy)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2.0", r"2\.0 is not a layout that this version reads \(1\.x\); build the store again .* a later prism-ray"),
        ("0.4", "build the store again from its catalog, or install the prism-ray that wrote it"),
        ("new", "'new' is not a version; a store of this version has 1.x"),
        (None, "None is not a version"),
    ],
)
def test_another_major_version(copy: Path, version: str | None, message: str) -> None:
    change_json(copy, lambda data: data.update(schema_version=version))
    with pytest.raises(StoreError, match=message):
        prism_ray.store.open(copy)


def test_a_later_minor_version_is_read(copy: Path) -> None:
    def later(data: dict[str, Any]) -> None:
        data["schema_version"] = "1.7"
        data["news"] = data["signals"][0]["news"] = 1

    change_json(copy, later)
    assert prism_ray.store.open(copy).signals == ("h3k27ac", "dnase", "hic")


def test_all_wrong_fields_of_a_description(copy: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["window_bp"] = "3000"
        del data["assembly"]

    change_json(copy, spoil)
    with pytest.raises(StoreError, match=r"2 faults:(.|\n)*store\.json: assembly(.|\n)*store\.json: window_bp"):
        prism_ray.store.open(copy)


def test_a_description_that_was_edited(copy: Path) -> None:
    change_json(copy, lambda data: data["folds"]["fold_1"].update(chr1="train"))
    with pytest.raises(StoreError, match="is not the digest of what the file says: it was changed after the build"):
        prism_ray.store.open(copy)


def test_all_missing_and_cut_files_are_named(copy: Path) -> None:
    (copy / FIRST).unlink()
    second = copy / FIRST.replace("chr1", "chr2")
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(StoreError) as error:
        prism_ray.store.open(copy)
    assert [fault.where for fault in error.value.faults] == [str(copy / FIRST), str(second)]
    assert "no such file" in error.value.faults[0].problem
    assert "bytes, store.json says" in error.value.faults[1].problem


def test_verify_names_every_file_with_a_flipped_byte(copy: Path) -> None:
    paths = [copy / FIRST, copy / FIRST.replace("chr1", "chr2")]
    for path in paths:
        flip(path, path.stat().st_size // 3)
    store = prism_ray.store.open(copy)
    with pytest.raises(StoreError, match="its bytes were changed: restore it from a copy, or build") as error:
        store.verify()
    assert [fault.where for fault in error.value.faults] == [str(path) for path in paths]


def test_a_flipped_byte_is_found_by_the_load_that_touches_it(copy: Path) -> None:
    flip(copy / FIRST, page_of(copy / FIRST, "hic__1000_1500"))
    store = prism_ray.store.open(copy)
    with pytest.raises(StoreError, match=r"chrom=chr1/part-0\.parquet: cannot be read .*; the file is damaged"):
        store.load(3000, ["hic"], "K562")
    assert len(store.load(2000, ["hic"], "K562")) == 12


def test_a_changed_footer_is_found_at_the_first_read(copy: Path) -> None:
    flip(copy / FIRST, (copy / FIRST).stat().st_size - 60)
    store = prism_ray.store.open(copy)
    with pytest.raises(StoreError, match=r"part-0\.parquet: has another footer than store\.json says"):
        store.genes("K562")


def test_swapped_files_are_found(copy: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "other", changed(seed=5))
    shutil.copy(tmp_path / "other" / FIRST, copy / FIRST)
    with pytest.raises(StoreError, match=r"chrom=chr1"):
        prism_ray.store.open(copy).verify()


def test_a_file_that_vanishes_after_opening(copy: Path) -> None:
    store = prism_ray.store.open(copy)
    (copy / FIRST).unlink()
    with pytest.raises(StoreError, match="no such file; the store is incomplete"):
        store.load(100, [], "K562")


def test_a_description_of_other_columns(copy: Path) -> None:
    description = json.loads((copy / "store.json").read_text())
    description["ring_bounds"][0] = 1
    (copy / "store.json").write_text(json.dumps(description))
    store = prism_ray.store.open(copy)
    with pytest.raises(StoreError, match=r"has no column 'sequence__1_1000', which store\.json promises; file and"):
        store.load(1000, ["dnase"], "K562")
    with pytest.raises(StoreError, match="has no column"):
        store.bytes_to_read(1000, ["dnase"], "K562")
