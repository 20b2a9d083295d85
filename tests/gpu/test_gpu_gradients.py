"""Gradients of a run's batches on the GPU: CUDA graphs where they may be used, and not where they may not."""

import numpy as np
import pytest
import torch

from prism_ray.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from prism_ray.model import InputShape, Prism
from prism_ray.store import GeneArrays
from prism_ray.training.gradients import GradientStep
from prism_ray.training.reporter import Placement


def gradient_steps(n_steps, *, device="cuda", states="learned", precision="bf16", **placed):
    """Weights of a model after some optimiser steps by `GradientStep`."""
    config = RunConfig(
        data=DataConfig(window_bp=1000),
        model=ModelConfig(d_model=64, n_layers=2, n_states=2, states=states),
        training=TrainingConfig(batch_size=4, precision=precision),
    )
    model = Prism(config.model, InputShape(n_signals=3, n_scalars=9), seed=3).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    gradients = GradientStep(model, config, Placement(device=torch.device(device), **placed))
    for seed in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        gradients.compute(made_genes(4, 1000, seed), seed)
        optimizer.step()
    graphed = "forward" in model.backbone.__dict__
    return graphed, {name: value.detach().cpu() for name, value in model.state_dict().items()}


def made_genes(n_genes, window_bp, seed):
    generator = np.random.default_rng(seed)
    return GeneArrays(
        gene_id=np.array([f"g{number}" for number in range(n_genes)]),
        chrom=np.full(n_genes, "chr1"),
        sequence=generator.integers(0, 4, (n_genes, window_bp)).astype(np.uint8),
        signals=generator.random((n_genes, window_bp, 3), dtype=np.float32),
        scalars=generator.random((n_genes, 9), dtype=np.float32),
        label=generator.random(n_genes, dtype=np.float32),
        signal_names=("h3k27ac", "dnase", "hic"),
        scalar_names=tuple(f"scalar_{number}" for number in range(9)),
        window_bp=window_bp,
    )


def test_a_step_of_a_run_is_graphed_and_gives_the_bits_of_the_plain_one(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    graphed, weights = gradient_steps(3)
    plainly, expected = gradient_steps(3, cuda_graphs=False)
    assert graphed
    assert not plainly
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_micro_batches_are_not_graphed():
    """A second backward pass would overwrite the gradients of the first."""
    graphed, weights = gradient_steps(2, micro_batch=2)
    _, expected = gradient_steps(2, cuda_graphs=False)
    assert not graphed
    largest = max((weights[name] - expected[name]).abs().max().item() for name in expected)
    assert largest <= 5e-3, "two steps of at most 1e-3 each way"


@pytest.mark.parametrize("states", ["random", "dropout"])
def test_states_by_chance_are_those_of_the_cpu(states):
    """One optimiser step moves a weight by at most its rate: other weights or masks would move many the other way."""
    graphed, weights = gradient_steps(1, states=states, precision="float32")
    _, expected = gradient_steps(1, device="cpu", states=states, precision="float32")
    assert graphed
    differing = torch.cat([((weights[name] - expected[name]).abs() > 1e-4).flatten() for name in expected])
    assert differing.float().mean() <= 0.02
