from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import prism_ray.store
from prism_ray.cli import main
from prism_ray.distributed import build, partition_run
from prism_ray.distributed.build import BuildProgress, build_store
from prism_ray.distributed.build_plan import Partition, plan_build
from prism_ray.distributed.build_worker import PartitionBuilder
from prism_ray.errors import CatalogError, ConfigError, InputError, StoreError
from prism_ray.store.staging import Staging
from prism_ray.store.tally import PartitionRecord
from tests.distributed.inline_partitions import without_ray

WINDOW_BP = 400


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(simulated_catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store built at once, in this process."""
    out = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        build_store(simulated_catalog, out, WINDOW_BP)
    return out


@pytest.mark.ray
def test_a_build_end_to_end(simulated_catalog: Path, ray_cluster: None, tmp_path: Path, whole: Path) -> None:
    seen: list[BuildProgress] = []
    report = build_store(simulated_catalog, tmp_path / "store", WINDOW_BP, 2, seen.append)
    store = prism_ray.store.open(tmp_path / "store")
    store.verify()
    assert report.digest == store.digest
    assert [progress.n_done for progress in seen] == list(range(1, 13))
    assert (seen[-1].n_partitions, seen[-1].n_genes_done, seen[-1].n_genes) == (12, 192, 192)
    assert list(tmp_path.iterdir()) == [tmp_path / "store"]
    arrays = store.load(WINDOW_BP, ["h3k27ac"], "K562")
    correlation = np.corrcoef(arrays.signals.mean(axis=(1, 2)), arrays.label)[0, 1]
    assert report.cell_types["K562"].signals["h3k27ac"].correlation == pytest.approx(correlation, abs=1e-5)
    assert correlation > 0.5
    # Workers and their number decide nothing but the time.
    assert bytes_of(tmp_path / "store") == bytes_of(whole)


@pytest.mark.ray
def test_an_interrupted_build_goes_on_and_ends_with_the_same_bytes(
    simulated_catalog: Path, ray_cluster: None, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"

    def interrupt(progress: BuildProgress) -> None:
        if progress.n_done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(simulated_catalog, out, WINDOW_BP, 1, interrupt)
    assert not out.exists()
    seen: list[BuildProgress] = []
    without_ray(monkeypatch, build)
    build_store(simulated_catalog, out, WINDOW_BP, None, seen.append)
    assert seen[0].message.startswith("kept ")
    assert 3 <= seen[0].n_done < 12
    assert seen[-1].n_done == 12
    assert bytes_of(out) == bytes_of(whole)


def test_what_a_build_of_other_data_left_is_discarded(
    simulated_catalog: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch, build)
    plan = plan_build(simulated_catalog, WINDOW_BP - 2)
    with Staging(tmp_path / "store", plan.key) as staging:
        PartitionBuilder(plan, str(staging.path)).build(plan.partitions[0])
    messages: list[str] = []
    build_store(
        simulated_catalog, tmp_path / "store", WINDOW_BP, None, lambda progress: messages.append(progress.message)
    )
    assert messages[0] == "discarded what an earlier build of other data, window or version had left"
    assert len(messages) == 13
    assert bytes_of(tmp_path / "store") == bytes_of(whole)


@pytest.mark.ray
def test_a_lost_worker_is_replaced(
    simulated_catalog: Path,
    ray_cluster: None,
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = tmp_path / "died"

    class Dying(PartitionBuilder):
        def build(self, partition: Partition) -> PartitionRecord:
            if partition.chrom == "chr3" and not mark.exists():
                mark.touch()
                os._exit(1)
            return super().build(partition)

    monkeypatch.setattr(build, "PartitionBuilder", Dying)
    messages: list[str] = []
    build_store(simulated_catalog, tmp_path / "store", WINDOW_BP, 1, lambda p: messages.append(p.message))
    assert any("a worker of the build was lost" in message for message in messages)
    assert bytes_of(tmp_path / "store") == bytes_of(whole)


@pytest.mark.ray
def test_workers_that_are_lost_again_and_again_end_the_build(
    simulated_catalog: Path, ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(PartitionBuilder):
        def build(self, partition: Partition) -> PartitionRecord:
            os._exit(1)

    monkeypatch.setattr(build, "PartitionBuilder", Dying)
    monkeypatch.setattr(partition_run, "_MOST_ATTEMPTS", 2)
    with pytest.raises(StoreError, match=r"a worker of the build was lost .*, 2 times; run the same command to go on"):
        build_store(simulated_catalog, tmp_path / "store", WINDOW_BP, 1)
    assert not (tmp_path / "store").exists()


def test_what_a_worker_finds_wrong_is_told(
    simulated_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(PartitionBuilder):
        def build(self, partition: Partition) -> PartitionRecord:
            raise OSError(28, "No space left on device")

    without_ray(monkeypatch, build)
    monkeypatch.setattr(build, "PartitionBuilder", Refusing)
    with pytest.raises(InputError, match=r"cannot be written \(.*No space left on device\); make room"):
        build_store(simulated_catalog, tmp_path / "store", WINDOW_BP, 1)


def test_a_partition_that_is_changed_while_building_is_told(
    simulated_catalog: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_ray(monkeypatch, build)
    out = tmp_path / "store"
    file = tmp_path / ".store.partial/cell_type=K562/chrom=chr2/part-0.parquet"

    def spoil(progress: BuildProgress) -> None:
        if progress.n_done == 12:
            file.write_bytes(b"something else")

    with pytest.raises(StoreError, match="K562 chr2: was changed by something else while the store was built; run"):
        build_store(simulated_catalog, out, WINDOW_BP, 1, spoil)
    assert not out.exists()
    build_store(simulated_catalog, out, WINDOW_BP, 1)
    assert bytes_of(out) == bytes_of(whole)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("n_workers", "message"),
    [(0, "workers: 0 is not a number of workers; use 1 or more"), (99, r"99 is more than the cluster's \d+ CPUs")],
)
def test_a_number_of_workers_that_cannot_be(
    simulated_catalog: Path, ray_cluster: None, tmp_path: Path, n_workers: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_store(simulated_catalog, tmp_path / "store", WINDOW_BP, n_workers)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_exists_is_refused_before_the_catalog_is_read(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        build_store(tmp_path / "nowhere.yaml", tmp_path / "store")


def test_a_catalog_with_faults_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text("schema: 1\nname: x\n")
    with pytest.raises(CatalogError):
        build_store(tmp_path / "catalog.yaml", tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.yaml"]


@pytest.mark.ray
def test_command_looks_into_a_store(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", str(whole)]) == 0
    said = capsys.readouterr().out
    window = "window   400 bp, on the forward strand, rings 0 200"
    for part in ("assembly sim1", window, "masked   nothing", "h3k27ac", "foreground", "k562_hic.mcool", "fold_1"):
        assert part in said, part
    assert said.count("####") > 4
    assert main(["store", "verify", str(whole)]) == 0
    assert "12 files" in capsys.readouterr().out


def test_command_refuses_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "info", str(tmp_path)]) == 2
    assert "has no _SUCCESS mark" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_command_that_is_killed_goes_on_and_ends_with_the_same_bytes(
    simulated_catalog: Path, ray_cluster: None, tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL at no chosen moment, with a cluster that the command started."""
    out = tmp_path / "store"
    arguments = ["build", str(simulated_catalog), "--out", str(out), "--window-bp", str(WINDOW_BP), "--workers", "1"]
    command = [sys.executable, "-m", "prism_ray", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["RAY_AUTH_MODE"] = "disabled"
    records = tmp_path / ".store.partial" / "_records"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as killed:
        while killed.poll() is None and not list(records.rglob("*.json")):
            time.sleep(0.005)
        children = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    # Ray's own end by themselves, some of them after a minute; the next command does not wait for them.
    for process in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(children, timeout=60)
    assert main(arguments) == 0
    done = capsys.readouterr()
    assert "Traceback" not in done.err
    assert "of an earlier build that was interrupted" in done.err
    assert "[ 12/12]" in done.err
    assert "K562: 96 genes on 6 chromosomes" in done.out
    assert f"store: {out}" in done.out
    (out / "quality.html").unlink()
    assert bytes_of(out) == bytes_of(whole)


def test_command_refuses_a_store_that_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "catalog.yaml", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"prism-ray build: {tmp_path}: exists already" in said.err
