from __future__ import annotations

import errno
import fcntl
import stat
from pathlib import Path

import pytest

import prism_ray.store
from prism_ray.errors import StoreError
from prism_ray.store.staging import Staging
from prism_ray.store.write import PartitionWriter
from tests.store.factory import Partition, Recipe, describe, make_rows, make_store, report_of, write_partition

RECIPE = Recipe(window_bp=10, cell_types=("K562",), chroms=("chr1", "chr2"))

OTHER = Recipe(**{**vars(RECIPE), "seed": 1})


def put(staging: Staging, chrom: str) -> None:
    partition = Partition("K562", chrom, make_rows(RECIPE, "K562", chrom))
    write_partition(staging.path, RECIPE.layout("K562"), partition)


def test_a_store_that_exists_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreError, match="store: exists already; give another --out, or move it away"):
        Staging(tmp_path / "store", "key")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="exists already"):
        Staging(tmp_path / "store", "key")


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere is no folder; create it"):
        Staging(tmp_path / "nowhere" / "store", "key")


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"cannot be written \(Read-only file system\); give another --out"):
        Staging(tmp_path / "store", "key")


def test_a_build_that_stops_before_its_first_partition_leaves_nothing(tmp_path: Path) -> None:
    with Staging(tmp_path / "store", "key"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_finished_partitions_are_kept(tmp_path: Path) -> None:
    with Staging(tmp_path / "store", "key") as staging:
        put(staging, "chr1")
    with Staging(tmp_path / "store", "key") as again:
        assert not again.discarded
        record = again.finished("K562", "chr1")
        assert record is not None
        assert record.entry.rows == RECIPE.n_genes
        assert again.finished("K562", "chr2") is None
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("damage", ["file", "missing", "record"])
def test_a_damaged_partition_is_done_again(tmp_path: Path, damage: str) -> None:
    with Staging(tmp_path / "store", "key") as staging:
        put(staging, "chr1")
        path = staging.path / "cell_type=K562/chrom=chr1/part-0.parquet"
        if damage == "file":
            data = bytearray(path.read_bytes())
            data[100] ^= 1
            path.write_bytes(bytes(data))
        elif damage == "missing":
            path.unlink()
        else:
            (record,) = (staging.path / "_records" / "key").iterdir()
            record.write_text(record.read_text()[:-20])
        assert staging.finished("K562", "chr1") is None


def test_partitions_of_other_data_are_discarded(tmp_path: Path) -> None:
    with Staging(tmp_path / "store", "key") as staging:
        put(staging, "chr1")
    with Staging(tmp_path / "store", "another key") as again:
        assert again.discarded
        assert again.finished("K562", "chr1") is None
        assert not (again.path / "cell_type=K562").exists()


def test_a_worker_that_outlives_a_build_of_other_data_does_no_harm(tmp_path: Path) -> None:
    rows = make_rows(RECIPE, "K562", "chr1")
    layout = RECIPE.layout("K562")
    with Staging(tmp_path / "store", "key") as staging, PartitionWriter(staging.path, "K562", "chr1", layout) as late:
        late.write(rows)
        put(staging, "chr1")
        mine = staging.finished("K562", "chr1")
        write_partition(staging.path, layout, Partition("K562", "chr1", make_rows(OTHER, "K562", "chr1")), "old key")
        assert staging.finished("K562", "chr1") is None
        put(staging, "chr1")
        assert staging.finished("K562", "chr1") == mine
        assert late.close() == mine.entry  # type: ignore[union-attr]
        assert staging.finished("K562", "chr1") == mine


def test_half_written_files_of_killed_workers_do_not_get_into_the_store(tmp_path: Path) -> None:
    out = tmp_path / "store"
    recipe = Recipe(**{**vars(RECIPE), "chroms": ("chr1",)})
    with Staging(out, "key") as staging:
        put(staging, "chr1")
        left_over = staging.path / "cell_type=K562/chrom=chr1/.part-0.parquet.abc.writing"
        left_over.write_bytes(b"PAR1")
        record = staging.finished("K562", "chr1")
        assert record is not None
        description = describe(recipe, [record])
        staging.finish(description, report_of(recipe, description, [record]))
    names = sorted(path.name for path in out.rglob("*") if path.is_file())
    assert names == ["_SUCCESS", "build_report.json", "part-0.parquet", "store.json"]


def test_two_builds_of_one_store_are_refused(tmp_path: Path) -> None:
    with Staging(tmp_path / "store", "key") as staging:
        put(staging, "chr1")
        with pytest.raises(StoreError, match="another build is writing it; wait for that build"):
            Staging(tmp_path / "store", "key")
        assert staging.finished("K562", "chr1") is not None


def test_a_file_system_without_locks_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Staging(tmp_path / "store", "key") as staging:
        assert staging.path.is_dir()


def test_an_interrupted_build_ends_with_the_same_bytes(tmp_path: Path) -> None:
    make_store(tmp_path / "whole", RECIPE)
    out = tmp_path / "resumed"
    with Staging(out, "key") as staging:
        put(staging, "chr2")
    with Staging(out, "key") as staging:
        put(staging, "chr1")
        records = [staging.finished("K562", chrom) for chrom in RECIPE.chroms]
        found = [record for record in records if record is not None]
        description = describe(RECIPE, found)
        staging.finish(description, report_of(RECIPE, description, found))
    whole = {path.relative_to(tmp_path / "whole"): path for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    resumed = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    assert resumed.keys() == whole.keys()
    for name, path in whole.items():
        assert resumed[name].read_bytes() == path.read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed", "whole"]


def test_a_name_taken_while_building_is_not_overwritten(tmp_path: Path) -> None:
    with Staging(tmp_path / "store", "key") as staging:
        put(staging, "chr1")
        record = staging.finished("K562", "chr1")
        assert record is not None
        recipe = Recipe(**{**vars(RECIPE), "chroms": ("chr1",)})
        description = describe(recipe, [record])
        (tmp_path / "store").mkdir()
        with pytest.raises(StoreError, match="exists already"):
            staging.finish(description, report_of(recipe, description, [record]))
        assert staging.finished("K562", "chr1") is not None


def test_a_store_may_be_read_only(tmp_path: Path) -> None:
    make_store(tmp_path / "store", RECIPE)
    for path in (tmp_path / "store").rglob("*"):
        path.chmod(path.stat().st_mode & ~stat.S_IWUSR)
    assert len(prism_ray.store.open(tmp_path / "store").load(10, [], "K562")) == 12
