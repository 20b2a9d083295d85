"""A disk that is full, and a place that cannot be written: said in words, and nothing lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prism_ray.distributed import build
from prism_ray.distributed.build import build_store
from prism_ray.distributed.build_plan import plan_build
from prism_ray.errors import InputError, PrismRayError, StoreError
from prism_ray.store.staging import Staging
from tests.distributed.disks import small_disk_at
from tests.distributed.inline_partitions import without_ray

WINDOW_BP = 20_000


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 600 kB, on which a part of the store fits."""
    with small_disk_at(tmp_path / "disk", "600k") as folder:
        yield folder


def test_a_full_disk_is_said_and_what_is_finished_is_kept(
    simulated_catalog: Path, small_disk: Path, tmp_path: Path
) -> None:
    out = small_disk / "store"
    with pytest.raises(InputError) as caught:
        build_store(simulated_catalog, out, WINDOW_BP)
    (fault,) = caught.value.faults
    assert "No space left on device" in fault.problem
    assert fault.fix == "make room or rights, then run the same command"
    assert str(small_disk) in fault.where
    assert not out.exists()
    plan = plan_build(simulated_catalog, WINDOW_BP)
    with Staging(out, plan.key) as staging:
        finished = [part for part in plan.partitions if staging.finished(part.cell_type, part.chrom) is not None]
    assert 0 < len(finished) < len(plan.partitions)
    # Half-written files would keep the room that the next attempt needs.
    assert not list(small_disk.rglob("*.writing"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    messages: list[str] = []
    build_store(simulated_catalog, out, WINDOW_BP, on_progress=lambda progress: messages.append(progress.message))
    assert messages[0] == f"kept {len(finished)} partitions of an earlier build that was interrupted"
    build_store(simulated_catalog, tmp_path / "whole", WINDOW_BP)
    assert (out / "store.json").read_bytes() == (tmp_path / "whole" / "store.json").read_bytes()


def test_a_disk_without_room_for_anything(simulated_catalog: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(590_000))
    with pytest.raises((InputError, StoreError, OSError)) as caught:
        build_store(simulated_catalog, small_disk / "store", WINDOW_BP)
    assert "No space left" in str(caught.value)
    assert not (small_disk / "store").exists()


def test_a_read_only_place_is_refused_before_the_files_are_read(tmp_path: Path) -> None:
    with small_disk_at(tmp_path / "disk", "1m") as folder:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        with pytest.raises(PrismRayError) as caught:
            build_store(tmp_path / "no_catalog.yaml", folder / "store", WINDOW_BP)
        assert "cannot be written" in str(caught.value)
