"""When a run's backbone becomes CUDA graphs, and what happens where it cannot; the graphs themselves: tests/gpu."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from prism_ray.config import RunConfig
from prism_ray.model import Prism
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training import gradients
from prism_ray.training.gradients import GradientStep, graphs_allowed
from prism_ray.training.loop import train
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import as_source

GPU = torch.device("cuda")


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Shapes and dtypes that were to be graphed; graphs are allowed here, and are the plain pass."""
    calls: list[tuple[object, ...]] = []

    def graph_backbone(backbone: nn.Module, shape: tuple[int, int, int], dtype: torch.dtype | None) -> None:
        calls.append((shape, dtype))
        backbone.forward = backbone.forward

    monkeypatch.setattr(gradients, "graphs_allowed", lambda placement: placement.cuda_graphs)
    monkeypatch.setattr(gradients, "graph_backbone", graph_backbone)
    return calls


def steps(config: RunConfig, arrays: GeneArrays, placement: Placement, n_steps: int = 2) -> tuple[Prism, GradientStep]:
    model = Prism(config.model, as_source(arrays).genes.inputs, seed=config.seed)
    step = GradientStep(model, config, placement)
    for _ in range(n_steps):
        model.zero_grad(set_to_none=True)
        step.compute(arrays.take(np.arange(8)), 0)
    return model, step


def test_allowed_for_one_worker_on_a_gpu_alone() -> None:
    assert graphs_allowed(Placement(device=GPU))
    assert not graphs_allowed(Placement())
    assert not graphs_allowed(Placement(device=GPU, n_workers=2))
    assert not graphs_allowed(Placement(device=GPU, cuda_graphs=False))


@pytest.mark.parametrize(("n_states", "n_copies"), [(0, 1), (2, 3)])
def test_a_whole_share_is_graphed_once(
    n_states: int, n_copies: int, graphed: list[tuple[object, ...]], config: RunConfig, arrays: GeneArrays
) -> None:
    config = config.model_copy(update={"model": config.model.model_copy(update={"n_states": n_states})})
    steps(config, arrays, Placement())
    assert graphed == [((8 * n_copies, 128, 8), None)]


@pytest.mark.parametrize("placed", [{"micro_batch": 3}, {"checkpoint_activations": True}, {"cuda_graphs": False}])
def test_parts_of_a_share_and_what_is_computed_again_are_not(
    placed: dict[str, int], graphed: list[tuple[object, ...]], config: RunConfig, arrays: GeneArrays
) -> None:
    steps(config, arrays, Placement(**placed))  # type: ignore[arg-type]
    assert graphed == []


def test_what_cannot_be_captured_trains_launch_by_launch_and_says_so(
    graphed: list[tuple[object, ...]],
    config: RunConfig,
    arrays: GeneArrays,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected, _ = steps(config, arrays, Placement())

    def refuse(backbone: nn.Module, shape: tuple[int, int, int], dtype: torch.dtype | None) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(gradients, "graph_backbone", refuse)
    with caplog.at_level(logging.WARNING):
        model, _ = steps(config, arrays, Placement())
    assert caplog.text.count("not permitted when stream is capturing") == 1
    for parameter, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad)  # type: ignore[arg-type]


def test_memory_that_is_short_for_graphs_cuts_the_batch(
    graphed: list[tuple[object, ...]], config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(backbone: nn.Module, shape: tuple[int, int, int], dtype: torch.dtype | None) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(gradients, "graph_backbone", too_large)
    _, step = steps(config, arrays, Placement())
    assert step.micro_batch == 4


def test_a_trained_model_is_free_of_graphs(
    graphed: list[tuple[object, ...]], config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    result = train(config, arrays, split)
    assert len(graphed) == 1
    assert "forward" not in result.model.backbone.__dict__
