"""Recomputing blocks in the backward pass: the same numbers from less memory."""

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, prism_loss
from prism_ray.model.backbone import set_checkpointing


def small_model(backbone="caduceus"):
    config = ModelConfig(d_model=16, n_layers=3, n_states=2, backbone=backbone)
    return Prism(config, InputShape(n_signals=2, n_scalars=0), seed=1)


def run(model, *, n_positions=70):
    """Bytes that autograd keeps, the loss and all gradients."""
    generator = torch.Generator().manual_seed(3)
    sequence = torch.nn.functional.one_hot(torch.randint(0, 4, (2, n_positions), generator=generator), 4).float()
    signals = torch.rand(2, n_positions, 2, generator=generator)
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = prism_loss(model(sequence, signals), torch.ones(2), alpha=1.0, beta=1.0).total
    torch.autograd.backward(loss)
    return sum(kept.values()), loss.detach(), [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("backbone", ["caduceus", "mamba", "cnn"])
def test_gradients_are_the_same_to_the_bit_from_less_memory(backbone):
    plain, light = small_model(backbone), small_model(backbone)
    set_checkpointing(light, True)
    assert light.backbone.checkpoint_blocks
    kept, loss, gradients = run(plain)
    kept_light, loss_light, gradients_light = run(light)
    assert torch.equal(loss, loss_light)
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_light, strict=True))
    assert kept_light < 0.7 * kept


def test_it_can_be_turned_off_again_and_is_no_part_of_the_weights():
    model = small_model()
    names = list(model.state_dict())
    set_checkpointing(model, True)
    set_checkpointing(model, False)
    assert not model.backbone.checkpoint_blocks
    assert list(model.state_dict()) == names


def test_kept_memory_grows_no_faster_than_the_window():
    model = small_model()
    short, long = (run(model, n_positions=n_positions)[0] for n_positions in (320, 1280))
    assert long < 4.2 * short
