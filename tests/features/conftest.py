from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prism_ray.features.simulate import SimulationConfig, simulate


@pytest.fixture(scope="session")
def tiny_genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the smallest simulated genome: 24 genes on 6 chromosomes. Not to be changed."""
    out = tmp_path_factory.mktemp("features") / "tiny"
    simulate(out, SimulationConfig(genes=24, chromosomes=6, seed=3))
    return out


@pytest.fixture
def genome_copy(tiny_genome: Path, tmp_path: Path) -> Path:
    """A copy of the smallest simulated genome that a test may spoil."""
    return Path(shutil.copytree(tiny_genome, tmp_path / "genome"))
