"""What all tests share: one simulated genome, its store, and one local Ray cluster a test process."""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

STARTUP = Path(__file__).resolve().parent / "startup"
"""Folder of what this process, and each that is started from it, does first."""
runpy.run_path(str(STARTUP / "sitecustomize.py"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(STARTUP), os.environ.get("PYTHONPATH"))))

# What a test wrote need not survive a power failure: in memory no database and no journal waits for the disk.
_SHARED_MEMORY, _ROOM = Path("/dev/shm"), 8 << 30
if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > _ROOM:
    if not os.statvfs(_SHARED_MEMORY).f_flag & os.ST_NOEXEC:  # tests write commands, too
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_SHARED_MEMORY))

# A first example may load a library, and other tests compute beside it: no example fails by its time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Read by processes that Ray starts: they must be there before ray is imported anywhere.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
# Nobody is told of these clusters; Ray Data would start a process in each that collects what to tell.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's workers give way to everything else, also to what another test process computes meanwhile, and hardly run then.
os.environ.setdefault("RAY_worker_niceness", "0")
# The agent of each node looks at all processes this often, for a dashboard that nobody reads (in place of 5 s).
os.environ.setdefault("REPORTER_UPDATE_INTERVAL_MS", "60000")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "1")

pytest_plugins = ["tests.postgres", "tests.tracking_door"]

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_pack() -> Path:
    """Folder of the real ENCODE tracks; a test that uses it is skipped where the pack is absent."""
    folder = REPOSITORY.parent / "shared" / "data" / "real"
    if not folder.is_dir():
        pytest.skip(f"the real data pack is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def simulated_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """catalog.yaml of a tiny simulated genome: 96 genes on 6 chromosomes, two cell types."""
    from prism_ray.features.simulate import SimulationConfig, simulate

    out = tmp_path_factory.mktemp("simulated") / "genome"
    simulate(out, SimulationConfig(genes=96, chromosomes=6, seed=7))
    return out / "catalog.yaml"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster of two CPUs for all tests of this process: starting one takes many seconds."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=300 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
    )
    _end_log_monitor()
    yield
    ray.shutdown()


def _end_log_monitor() -> None:
    """End the process that sends workers' output to drivers: none is shown, and it takes a tenth of a core."""
    for process in psutil.Process().children():
        if any(argument.endswith("log_monitor.py") for argument in process.cmdline()):
            process.kill()


@pytest.fixture(scope="session")
def simulated_store(simulated_catalog: Path, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feature store built from the simulated genome, in this process; tests/distributed/test_build.py has Ray do it."""
    from prism_ray.distributed import build
    from tests.distributed.inline_partitions import without_ray

    out = tmp_path_factory.mktemp("store") / "store"
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch, build)
        build.build_store(simulated_catalog, out)
    return out
