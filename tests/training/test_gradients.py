"""Gradients of a batch do not depend on how it is cut; memory that is short cuts it smaller."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prism_ray.config import RunConfig
from prism_ray.errors import TrainingError
from prism_ray.model import Output, Prism, prism_loss
from prism_ray.model.backbone import BidirectionalBlock
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.batches import make_batch
from prism_ray.training.gradients import GradientStep
from prism_ray.training.loop import train
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import as_source

WIDE = ("backbone", "state_encoder", "head")
"""Parts of the model whose inputs and outputs are float32 in mixed precision too, besides norms and the stream between
blocks: bfloat16 is inside of blocks only."""
ROWS = np.array([3, 17, 8, 25, 1, 30, 12, 39])


def with_model(config: RunConfig, **values: object) -> RunConfig:
    return config.model_copy(update={"model": config.model.model_copy(update=values)})


def with_training(config: RunConfig, **values: object) -> RunConfig:
    return config.model_copy(update={"training": config.training.model_copy(update=values)})


def model_of(config: RunConfig, arrays: GeneArrays) -> Prism:
    return Prism(config.model, as_source(arrays).genes.inputs, seed=config.seed)


def computed(config: RunConfig, arrays: GeneArrays, placement: Placement) -> tuple[Prism, torch.Tensor]:
    """A new model with the gradients of a batch of 8, and the losses."""
    model = model_of(config, arrays)
    losses = GradientStep(model, config, placement).compute(arrays.take(ROWS), 0)
    return model, losses


def assert_near(found: Prism, expected: Prism, rel: float = 1e-5) -> None:
    for (name, parameter), other in zip(found.named_parameters(), expected.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        difference = (parameter.grad - other.grad).norm()
        # A convolution's bias has no gradient before batch normalisation: its rounding is no error.
        assert difference <= rel * other.grad.norm() + 1e-7, name
    for (name, buffer), other in zip(found.named_buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, other), name


@pytest.mark.parametrize("n_states", [0, 1, 2])
def test_a_whole_share_is_the_plain_backward_pass(n_states: int, config: RunConfig, arrays: GeneArrays) -> None:
    config = with_model(config, n_states=n_states)
    plain = model_of(config, arrays).train()
    batch = make_batch(arrays.take(ROWS), torch.device("cpu"))
    expected = prism_loss(
        plain(batch.sequence, batch.signals, batch.scalars), batch.label, config.loss.alpha, config.loss.beta
    )
    torch.autograd.backward(expected.total)
    found, losses = computed(config, arrays, Placement())
    assert losses.tolist() == [
        float(loss.detach()) for loss in (expected.total, expected.prediction, expected.adjustment, expected.diversity)
    ]
    for (name, parameter), other in zip(found.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad), name  # type: ignore[arg-type]


@pytest.mark.parametrize("n_states", [0, 1, 2, 4])
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_give_the_gradients_of_the_batch(
    micro_batch: int, n_states: int, config: RunConfig, arrays: GeneArrays
) -> None:
    config = with_model(config, n_states=n_states)
    whole, whole_losses = computed(config, arrays, Placement())
    parts, losses = computed(config, arrays, Placement(micro_batch=micro_batch))
    torch.testing.assert_close(losses, whole_losses, rtol=1e-6, atol=1e-8)
    # Batch normalisation included: its encoder sees the whole share in every case.
    assert_near(parts, whole)


def test_a_run_in_micro_batches_ends_where_the_whole_one_does(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    whole = train(config, arrays, split)
    parts = train(config, arrays, split, placement=Placement(micro_batch=3))
    assert parts.metrics == pytest.approx(whole.metrics, rel=1e-3)
    assert (whole.micro_batch, parts.micro_batch) == (8, 3)
    assert not parts.checkpointing


@pytest.mark.parametrize("backbone", ["caduceus", "mamba", "cnn"])
def test_checkpointed_activations_give_the_same_gradients(backbone: str, config: RunConfig, arrays: GeneArrays) -> None:
    config = with_model(config, backbone=backbone, n_layers=2)
    kept, kept_losses = computed(config, arrays, Placement())
    again, losses = computed(config, arrays, Placement(checkpoint_activations=True, micro_batch=4))
    torch.testing.assert_close(losses, kept_losses, rtol=1e-6, atol=1e-8)
    assert_near(again, kept)


def test_checkpointed_activations_keep_less(config: RunConfig, arrays: GeneArrays) -> None:
    """Bytes that autograd holds between the passes."""

    def kept(placement: Placement) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model = model_of(with_model(config, n_states=0, n_layers=4), arrays)
        GradientStep(model, config, placement)
        batch = make_batch(arrays.take(ROWS), torch.device("cpu"))
        model.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(batch.sequence, batch.signals, batch.scalars)
        return sum(sizes.values())

    assert kept(Placement(checkpoint_activations=True)) < 0.5 * kept(Placement())


class ShortMemory:
    """Makes the model fail as a GPU that is full, where more than `n_most` genes are in it at once.

    With `late`, the first part of a batch still fits: its gradients are there when the second part fails.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n_most: int, *, late: bool = False) -> None:
        self.n_failed = 0
        self.sizes: list[int] = []
        forward = Prism.forward

        def checked(model: Prism, sequence: Any, signals: Any, *args: Any, **kwargs: Any) -> Output:
            n_genes = len(signals)
            self.sizes.append(n_genes)
            if model.training and n_genes > n_most and not (late and len(self.sizes) == 1):
                self.n_failed += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(model, sequence, signals, *args, **kwargs)

        monkeypatch.setattr(Prism, "forward", checked)


def test_short_memory_halves_the_micro_batch_and_changes_no_gradient(
    config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, whole_losses = computed(config, arrays, Placement())
    memory = ShortMemory(monkeypatch, n_most=2)
    parts, losses = computed(config, arrays, Placement())
    assert memory.sizes == [8, 4, 2, 2, 2, 2]
    torch.testing.assert_close(losses, whole_losses, rtol=1e-6, atol=1e-8)
    assert_near(parts, whole)  # running statistics too: a repeated step moves them once


def test_gradients_of_parts_that_fitted_are_dropped(
    config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = computed(config, arrays, Placement())
    memory = ShortMemory(monkeypatch, n_most=3, late=True)
    parts, _ = computed(config, arrays, Placement(micro_batch=4))
    assert memory.sizes == [4, 4, 2, 2, 2, 2]
    assert_near(parts, whole)


class Heard:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, dict[str, float]]] = []

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        self.reports.append((step, dict(metrics)))

    def validated(self, metrics: Mapping[str, float], step: int, history: Any) -> bool:
        return False


def test_a_run_short_of_memory_says_so_once_and_goes_on(
    config: RunConfig,
    arrays: GeneArrays,
    split: Split,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = train(config, arrays, split)
    memory, heard = ShortMemory(monkeypatch, n_most=4), Heard()
    with caplog.at_level(logging.WARNING):
        result = train(config, arrays, split, reporter=heard)
    assert memory.n_failed == 1
    assert result.micro_batch == 4
    assert result.metrics == pytest.approx(whole.metrics, rel=1e-3)
    said = [(step, metrics) for step, metrics in heard.reports if "cost/micro_batch" in metrics]
    assert said == [(1, {"cost/micro_batch": 4.0, "cost/checkpoint_activations": 0.0})]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory on cpu: the same batch goes on with 4 genes at a time"
    ]


def test_a_failed_attempt_leaves_the_optimizer_alone(
    config: RunConfig, arrays: GeneArrays, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory gets short in the middle of a run: the same numbers as with small micro-batches from there on."""
    forward, n_steps = Prism.forward, {"trained": 0}

    def later(model: Prism, sequence: Any, signals: Any, *args: Any, **kwargs: Any) -> Output:
        if model.training:
            n_steps["trained"] += 1
            if n_steps["trained"] == 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, sequence, signals, *args, **kwargs)

    whole = train(config, arrays, split)
    monkeypatch.setattr(Prism, "forward", later)
    result = train(config, arrays, split)
    assert result.micro_batch == 4
    assert result.history[:5] == whole.history[:5]
    assert result.metrics == pytest.approx(whole.metrics, rel=1e-3)


def test_one_gene_turns_to_checkpointing_and_then_says_what_to_do(
    config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory = ShortMemory(monkeypatch, n_most=0)
    step = GradientStep(model_of(config, arrays), config, Placement())
    with pytest.raises(TrainingError, match=r"^1 genes of 128 bp do not fit in the memory of cpu") as refused:
        step.compute(arrays.take(ROWS), 0)
    assert "--gpus-per-worker" in str(refused.value)
    assert "data.window_bp" in str(refused.value)
    assert memory.sizes == [8, 4, 2, 1, 1]
    assert step.checkpointing
    assert caplog.records[-1].getMessage().endswith("with 1 genes at a time and activation checkpointing")


def test_an_encoder_that_does_not_fit_is_said(
    config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(config, arrays)
    assert model.state_encoder is not None

    def full(signals: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.state_encoder, "forward", full)
    with pytest.raises(TrainingError, match="8 genes of 128 bp do not fit"):
        GradientStep(model, config, Placement()).compute(arrays.take(ROWS), 0)


def test_the_encoder_is_back_after_an_error(
    config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(config, arrays)
    names, encoder = [name for name, _ in model.named_parameters()], model.state_encoder
    ShortMemory(monkeypatch, n_most=0)
    with pytest.raises(TrainingError):
        GradientStep(model, config, Placement(checkpoint_activations=True, micro_batch=1)).compute(arrays.take(ROWS), 0)
    assert model.state_encoder is encoder
    assert [name for name, _ in model.named_parameters()] == names


def test_mixed_precision_stays_near_float32(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    full = train(config, arrays, split)
    mixed = train(with_training(config, precision="bf16"), arrays, split)
    for wide, narrow in zip(full.history, mixed.history, strict=True):
        for name, value in wide.items():
            if name.endswith(("loss", "mse")):
                assert narrow[name] == pytest.approx(value, rel=0.02, abs=2e-3), name
    assert {value.dtype for value in mixed.model.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_mixed_precision_leaves_norms_states_and_predictions_in_float32(config: RunConfig, arrays: GeneArrays) -> None:
    config = with_training(config, precision="bf16")
    model = model_of(config, arrays)
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str) -> Any:
        def hook(part: nn.Module, given: tuple[Any, ...], result: Any) -> None:
            values = [*given, result] if name != "model" else [result.plain, result.adjusted, result.state_weights]
            seen.setdefault(name, set()).update(value.dtype for value in values if torch.is_tensor(value))

        return hook

    model.register_forward_hook(note("model"))
    for name, part in model.named_modules():
        if isinstance(part, (nn.RMSNorm, nn.BatchNorm1d, BidirectionalBlock)) or name in WIDE:
            part.register_forward_hook(note(name))
    GradientStep(model, config, Placement()).compute(arrays.take(ROWS), 0)
    assert {"model", "backbone.norm", "backbone.blocks.0", *WIDE} <= seen.keys()
    assert {dtype for dtypes in seen.values() for dtype in dtypes} == {torch.float32}
    assert {parameter.grad.dtype for parameter in model.parameters() if parameter.grad is not None} == {torch.float32}
