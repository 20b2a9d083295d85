"""The three backbones behind one interface: shapes, sizes, what a position sees, training, files, and cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from prism_ray.config import EvaluationConfig, ModelConfig, RunConfig
from prism_ray.model import InputShape, Prism, count_parameters, load, parameter_groups, prism_loss, save
from prism_ray.model.backbones import BACKBONES, build_backbone
from prism_ray.workload import evaluation_multiply_adds, n_parameters, plain_multiply_adds, training_multiply_adds

NAMES = sorted(BACKBONES)
D, LENGTH = 8, 70


def config_of(backbone: str, **settings: object) -> ModelConfig:
    small = {"d_model": D, "n_layers": 2, "d_state": 4, "n_states": 2, "centre_bp": 40}
    return ModelConfig.model_validate({"backbone": backbone, **small, **settings})


def backbone_of(name: str, **settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(config_of(name, **settings)).eval()


def test_a_config_can_name_every_backbone_and_no_other() -> None:
    allowed = ModelConfig.model_fields["backbone"].annotation.__args__  # type: ignore[union-attr]
    assert set(allowed) == BACKBONES.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("n_genes", "length"), [(1, 1), (3, 2), (2, LENGTH + 1)])
def test_shapes(name: str, n_genes: int, length: int) -> None:
    hidden = torch.randn(n_genes, length, D)
    out = backbone_of(name)(hidden)
    assert out.shape == hidden.shape
    assert torch.isfinite(out).all()


@st.composite
def networks(draw: st.DrawFn) -> tuple[ModelConfig, InputShape]:
    """A network of any kind, and what it sees."""
    few = st.integers(1, 3)
    states = draw(st.sampled_from(["learned", "random", "dropout"]))
    n_states = draw(st.integers(0 if states == "learned" else 1, 3))
    n_signals = draw(st.integers(1 if n_states else 0, 3))
    settings = {
        "backbone": draw(st.sampled_from(NAMES)),
        "d_model": draw(st.integers(1, 40)),
        "cnn_width": draw(st.sampled_from([1, 3, 7])),
        "states": states,
        "n_states": n_states,
        **{name: draw(few) for name in ("n_layers", "d_state", "d_conv", "expand", "confounder_channels")},
    }
    sequence = n_signals == 0 or draw(st.booleans())
    return ModelConfig.model_validate(settings), InputShape(n_signals, draw(st.integers(0, 3)), sequence)


@given(networks())
@settings(max_examples=60)
def test_number_of_parameters_by_settings_alone_is_that_of_the_model(network: tuple[ModelConfig, InputShape]) -> None:
    config, inputs = network
    told = n_parameters(config, inputs.n_signals, inputs.n_scalars, sequence=inputs.sequence)
    assert told == count_parameters(Prism(config, inputs))


def test_number_of_parameters_of_the_published_network() -> None:
    """Of the defaults by hand: d 128, four blocks (e 256, r 8, N 16), three signals, nine scalars, c 8."""
    direction = 256 * (4 + 1 + 40 + 8 + 1 + 16 + 1)
    backbone = 4 * (128 + 3 * 128 * 256 + 2 * direction) + 128
    encoder = (3 * 7 + 3) * 8 + (8 * 5 + 3) * 16 + (16 * 3 + 3) * 32 + 33 * 256
    rest = 5 * 128 + 4 * 128 + 138 * 128 + 129 * 128 + 129
    assert n_parameters(ModelConfig(), 3, 9, sequence=True) == backbone + encoder + rest
    assert n_parameters(ModelConfig(n_states=0), 3, 9, sequence=True) == backbone + rest == 574_721


def reach(backbone: torch.nn.Module, at: int, length: int) -> list[int]:
    """Positions on which the output at one position depends."""
    hidden = torch.randn(1, length, D, requires_grad=True)
    weights = torch.randn(D)  # a plain sum after the norm could have no gradient
    (gradient,) = torch.autograd.grad((backbone(hidden)[0, at] * weights).sum(), hidden)
    return gradient[0].abs().sum(dim=1).nonzero().flatten().tolist()


def test_mamba_sees_the_left_and_caduceus_both_sides() -> None:
    assert reach(backbone_of("mamba"), 30, 40) == list(range(31))
    assert reach(backbone_of("caduceus"), 30, 40) == list(range(40))


def test_mamba_does_not_change_where_the_right_does() -> None:
    backbone = backbone_of("mamba")
    one = torch.randn(2, LENGTH, D)
    other = one.clone()
    other[:, 33:] = torch.randn(2, LENGTH - 33, D)
    assert torch.equal(backbone(one)[:, :33], backbone(other)[:, :33])
    assert not torch.allclose(backbone(one)[:, 33:], backbone(other)[:, 33:])


def test_mamba_is_the_left_half_of_caduceus() -> None:
    """With the other direction silenced a bidirectional block is a block of one direction."""
    both, one = backbone_of("caduceus", n_layers=1), backbone_of("mamba", n_layers=1)
    one.load_state_dict({name: value for name, value in both.state_dict().items() if "right_to_left" not in name})
    silenced = both.state_dict()
    for part in ("D", "conv.weight", "conv.bias"):
        silenced[f"blocks.0.right_to_left.{part}"].zero_()
    hidden = torch.randn(2, LENGTH, D)
    torch.testing.assert_close(one(hidden), both(hidden), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_layers", "width"), [(1, 3), (3, 3), (3, 5), (4, 1)])
def test_receptive_field_of_the_cnn(n_layers: int, width: int) -> None:
    backbone = backbone_of("cnn", n_layers=n_layers, cnn_width=width)
    side = width // 2 * (2**n_layers - 1)
    middle, length = 40, 81
    assert reach(backbone, middle, length) == list(range(middle - side, middle + side + 1))


def toy_inputs(n_genes: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    bases = torch.randint(0, 4, (n_genes, LENGTH), generator=generator)
    sequence = torch.nn.functional.one_hot(bases, 4).float()
    signals = torch.rand(n_genes, LENGTH, 2, generator=generator)
    scalars = torch.randn(n_genes, 1, generator=generator)
    return sequence, signals, scalars, 3 * (signals[:, 20:50, 0].mean(dim=1) - 0.5) * 4 + scalars[:, 0]


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss(name: str) -> None:
    model = Prism(config_of(name), InputShape(2, 1), seed=1).train()
    *inputs, target = toy_inputs()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = prism_loss(model(*inputs), target, 1.0, 0.1)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.prediction.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_file_keeps_the_backbone(name: str, tmp_path: Path) -> None:
    model = Prism(config_of(name), InputShape(2, 1), seed=1).eval()
    save(model, tmp_path / "model", signals=("a", "b"), scalars=("c",))
    again = load(tmp_path / "model")
    assert again.config.backbone == name
    assert type(again.backbone) is type(model.backbone)
    *inputs, _ = toy_inputs()
    assert torch.equal(again(*inputs).adjusted, model(*inputs).adjusted)


@pytest.mark.parametrize("name", NAMES)
def test_multiply_adds_grow_with_copies_and_window(name: str) -> None:
    config = config_of(name, n_states=3)
    assert training_multiply_adds(config, 2000) == 12 * plain_multiply_adds(config, 2000)
    assert plain_multiply_adds(config, 4000) == 2 * plain_multiply_adds(config, 2000)


def test_cost_counts_every_matrix_product() -> None:
    """PyTorch counts products and dense convolutions; of a CNN they are all there is but for its padding."""
    config = config_of("cnn")
    with FlopCounterMode(display=False) as counter:
        build_backbone(config)(torch.randn(1, LENGTH, D))
    assert counter.get_total_flops() == 2 * plain_multiply_adds(config, LENGTH)
    # By hand for one layer of Mamba, d 2, inner 4, rank 1, state 3, taps 4: 3*2*4 + 4*(4 + 7 + 1 + 9 + 1).
    tiny = ModelConfig(d_model=2, n_layers=1, d_state=3, d_conv=4)
    assert plain_multiply_adds(tiny.model_copy(update={"backbone": "mamba"}), 10) == 10 * (24 + 88)
    assert plain_multiply_adds(tiny, 10) == 10 * (24 + 2 * 88)


def test_an_evaluation_passes_one_copy_or_those_that_predict() -> None:
    run = RunConfig().model_copy(update={"evaluation": EvaluationConfig(window_bp=500)})
    plain = plain_multiply_adds(run.model, 500)
    assert evaluation_multiply_adds(run) == plain
    assert evaluation_multiply_adds(run.trained()) == plain * run.data.window_bp // 500
    adjusted = run.model.model_copy(update={"n_states": 3, "predict_with": "adjusted"})
    assert evaluation_multiply_adds(run.model_copy(update={"model": adjusted})) == 3 * plain
