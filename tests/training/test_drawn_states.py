"""Runs whose states are drawn by chance: the same numbers wherever they train, and nothing of them is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from prism_ray.config import RunConfig
from prism_ray.model import Prism, load, save
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.gradients import GradientStep
from prism_ray.training.loop import train
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import as_source

CONTROLS = ["random", "dropout"]
ROWS = np.array([3, 17, 8, 25, 1, 30, 12, 39])


def control(config: RunConfig, states: str, **model: object) -> RunConfig:
    return config.model_copy(update={"model": config.model.model_copy(update={"states": states, **model})})


def gradients(config: RunConfig, arrays: GeneArrays, placement: Placement, step: int = 5) -> dict[str, torch.Tensor]:
    model = Prism(config.model, as_source(arrays).genes.inputs, seed=config.seed)
    GradientStep(model, config, placement).compute(arrays, step)
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("states", CONTROLS)
def test_micro_batches_give_the_gradients_of_the_batch(states: str, config: RunConfig, arrays: GeneArrays) -> None:
    config, genes = control(config, states), arrays.take(ROWS)
    assert_near(gradients(config, genes, Placement(micro_batch=3)), gradients(config, genes, Placement()))


@pytest.mark.parametrize("states", CONTROLS)
def test_two_workers_shares_are_the_parts_of_the_batch(
    states: str, config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each share's gradients, without what workers tell each other, average to those of the whole batch."""
    monkeypatch.setattr("prism_ray.training.gradients.sum_over_workers", lambda values, placement: values)
    monkeypatch.setattr("prism_ray.training.gradients.average_gradients", lambda parameters, placement: None)
    config, genes = control(config, states), arrays.take(ROWS)
    shares = [
        gradients(config, genes.take(range(4 * rank, 4 * rank + 4)), Placement(rank=rank, n_workers=2))
        for rank in range(2)
    ]
    mean = {name: (shares[0][name] + shares[1][name]) / 2 for name in shares[0]}
    assert_near(mean, gradients(config, genes, Placement()))


def test_masks_are_other_ones_at_every_step(config: RunConfig, arrays: GeneArrays) -> None:
    config, genes = control(config, "dropout"), arrays.take(ROWS)
    one, other = (gradients(config, genes, Placement(), step) for step in (5, 6))
    assert not torch.equal(one["signal_layer.weight"], other["signal_layer.weight"])


@pytest.mark.parametrize("states", CONTROLS)
def test_resumed_equals_uninterrupted_to_the_bit(
    states: str, config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path
) -> None:
    config = control(config, states, predict_with="adjusted")
    whole = train(config, arrays, split)

    class Killed(BaseException): ...

    def dies(n_asked: list[int] = []) -> bool:  # noqa: B006  # counts over calls
        n_asked.append(1)
        if len(n_asked) == 8:
            raise Killed
        return False

    with pytest.raises(Killed):
        train(
            config, arrays, split, folder=tmp_path, placement=Placement(checkpoint_every_steps=3, checkpoint_asked=dies)
        )
    torch.manual_seed(12345)  # another process has another state of chance
    resumed = train(config, arrays, split, folder=tmp_path)
    assert resumed.metrics == whole.metrics
    assert resumed.history == whole.history
    for (name, value), other in zip(resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_random_weights_are_not_trained(config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path) -> None:
    config = control(config, "random")
    before = Prism(config.model, as_source(arrays).genes.inputs, seed=config.seed)
    model = train(config, arrays, split).model
    name = "state_encoder.weights"
    assert torch.equal(model.state_dict()[name], before.state_dict()[name])
    assert not torch.equal(model.state_dict()["head.0.weight"], before.state_dict()["head.0.weight"])
    save(model, tmp_path / "m", run_config=config, scalars=arrays.scalar_names)
    assert torch.equal(load(tmp_path / "m").state_dict()[name], before.state_dict()[name])


@pytest.mark.parametrize("states", CONTROLS)
def test_beta_changes_nothing_and_alpha_does(states: str, config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    config = control(config, states)
    one = train(config, arrays, split)
    for name, same in (("beta", True), ("alpha", False)):
        loss = config.loss.model_copy(update={name: 0.25})
        other = train(config.model_copy(update={"loss": loss}), arrays, split)
        assert (other.history == one.history) == same


def test_short_memory_draws_the_same_masks_again(
    config: RunConfig, arrays: GeneArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, genes = control(config, "dropout"), arrays.take(ROWS)
    expected = gradients(config, genes, Placement())
    forward = Prism.forward

    def full(model: Prism, sequence: torch.Tensor, *args: object, **kwargs: object) -> object:
        if model.training and len(sequence) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, sequence, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Prism, "forward", full)
    assert_near(gradients(config, genes, Placement()), expected)
