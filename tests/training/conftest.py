"""A small data set whose label a small network can learn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from prism_ray.config import DataConfig, LossConfig, ModelConfig, OptimizerConfig, RunConfig, TrainingConfig
from prism_ray.splits import Split
from prism_ray.store import GeneArrays

N_GENES, WINDOW_BP = 60, 128


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are so small that threads only wait for each other: seconds a run on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def arrays() -> GeneArrays:
    """60 genes, 128 bp, two signals and two scalars; the label is the mean of the first signal, plus noise."""
    rng = np.random.default_rng(3)
    level = rng.normal(size=N_GENES).astype(np.float32)
    signals = rng.normal(size=(N_GENES, WINDOW_BP, 2)).astype(np.float32)
    signals[:, :, 0] += 2 * level[:, None]
    return GeneArrays(
        gene_id=np.array([f"g{number:02d}" for number in range(N_GENES)]),
        chrom=np.repeat(np.array(["chr1", "chr2", "chr3"]), N_GENES // 3),
        sequence=rng.integers(0, 5, size=(N_GENES, WINDOW_BP)).astype(np.uint8),
        signals=signals,
        scalars=rng.normal(size=(N_GENES, 2)).astype(np.float32),
        label=(level + 0.1 * rng.normal(size=N_GENES)).astype(np.float32),
        signal_names=("h3k27ac", "dnase"),
        scalar_names=("utr5_len", "cds_len"),
        window_bp=WINDOW_BP,
    )


@pytest.fixture(scope="session")
def split() -> Split:
    """40 genes train, 9 validate, 11 test."""
    index = np.arange(N_GENES, dtype=np.int64)
    return Split(index[:40], index[40:49], index[49:])


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """A network that trains in a second."""
    return RunConfig(
        data=DataConfig(window_bp=WINDOW_BP, signals=("h3k27ac", "dnase")),
        model=ModelConfig(d_model=8, n_layers=1, d_state=4, n_states=2, centre_bp=100),
        loss=LossConfig(),
        optimizer=OptimizerConfig(learning_rate=1.0e-2, final_learning_rate=1.0e-3),
        training=TrainingConfig(n_steps=12, batch_size=8, precision="float32"),
        seed=2,
    )
