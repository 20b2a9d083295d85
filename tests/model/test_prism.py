"""Prism: its paths, averages, inputs, and what it refuses."""

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.errors import ConfigError, InputError
from prism_ray.model import InputShape, Prism, prism_loss, set_kernel

WINDOW, SIGNALS, SCALARS, GENES = 96, 3, 2, 4


def build(seed=3, inputs=None, **settings):
    config = ModelConfig(**{"d_model": 8, "n_layers": 1, "d_state": 4, "centre_bp": 50, **settings})
    return Prism(config, inputs or InputShape(SIGNALS, SCALARS), seed=seed)


def make_inputs(n_genes=GENES, n_positions=WINDOW):
    generator = torch.Generator().manual_seed(1)
    bases = torch.randint(0, 4, (n_genes, n_positions), generator=generator)
    sequence = torch.nn.functional.one_hot(bases, 4).float()
    signals = torch.rand(n_genes, n_positions, SIGNALS, generator=generator)
    scalars = torch.randn(n_genes, SCALARS, generator=generator)
    return sequence, signals, scalars


def backbone_inputs(model):
    """List that will hold what the backbone is given."""
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    return seen


@pytest.mark.parametrize("n_states", [0, 1, 2, 4, 8])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_shapes_for_every_number_of_states(n_states, activation):
    output = build(n_states=n_states, weight_activation=activation)(*make_inputs())
    assert output.plain.shape == (GENES,)
    if n_states == 0:
        assert output.adjusted is None
        assert output.state_weights is None
    else:
        assert output.adjusted.shape == (GENES,)
        assert output.state_weights.shape == (GENES, 8, n_states)
        if activation == "softmax":
            torch.testing.assert_close(output.state_weights.sum(dim=1), torch.ones(GENES, n_states))


@pytest.mark.parametrize("average", ["hidden", "prediction"])
def test_adjusted_path_is_the_average_of_plain_models_with_weighted_signals(average):
    """Copy i is a model without states whose signal layer, bias included, is scaled by a_i; the DNA layer is not."""
    model = build(n_states=3, average=average).eval()
    with torch.no_grad():
        model.state_encoder.projection.weight.zero_()  # the same states for every gene
    inputs = make_inputs()
    output = model(*inputs)
    states = torch.sigmoid(model.state_encoder.projection.bias).view(8, 3)
    torch.testing.assert_close(output.state_weights, states.expand(GENES, 8, 3))

    copies = []
    for i in range(3):
        twin = build(n_states=0).eval()
        twin.load_state_dict({name: value for name, value in model.state_dict().items() if "state_encoder" not in name})
        with torch.no_grad():
            twin.signal_layer.weight.mul_(states[:, i : i + 1])
            twin.signal_layer.bias.mul_(states[:, i])
        pooled = []
        twin.head.register_forward_pre_hook(lambda module, given, seen=pooled: seen.append(given[0]))
        copies.append((twin(*inputs).plain, pooled[0]))
    if average == "prediction":
        expected = torch.stack([prediction for prediction, _ in copies]).mean(dim=0)
    else:
        expected = model.head(torch.stack([pooled for _, pooled in copies]).mean(dim=0)).squeeze(-1)
    torch.testing.assert_close(output.adjusted, expected, rtol=1e-5, atol=1e-6)


def test_the_averages_differ_by_the_heads_nonlinearity_alone():
    inputs = make_inputs()
    hidden, prediction = (build(n_states=3, average=average).eval() for average in ("hidden", "prediction"))
    one, other = hidden(*inputs), prediction(*inputs)
    assert torch.equal(one.plain, other.plain)
    assert torch.equal(one.state_weights, other.state_weights)
    assert not torch.allclose(one.adjusted, other.adjusted, rtol=1e-7, atol=1e-9)


def test_plain_path_does_not_depend_on_the_states():
    inputs = make_inputs()
    model = build(n_states=2).eval()
    before = model(*inputs)
    with torch.no_grad():
        for parameter in model.state_encoder.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = model(*inputs)
    assert torch.equal(before.plain, after.plain)
    assert not torch.allclose(before.adjusted, after.adjusted)


def test_paths_run_only_the_copies_they_need():
    inputs = make_inputs()
    model = build(n_states=3).eval()
    seen = backbone_inputs(model)
    both, plain, adjusted = (model(*inputs, paths=paths) for paths in ("both", "plain", "adjusted"))
    assert [copies.shape[0] for copies in seen] == [GENES * 4, GENES, GENES * 3]
    torch.testing.assert_close(plain.plain, both.plain)
    torch.testing.assert_close(adjusted.adjusted, both.adjusted)
    assert plain.adjusted is None
    assert plain.state_weights is None
    assert adjusted.plain is None


def test_plain_path_leaves_the_encoder_alone_in_training_mode():
    model = build(n_states=2).train()
    before = {name: value.clone() for name, value in model.state_encoder.named_buffers()}
    model(*make_inputs(), paths="plain")
    assert all(torch.equal(before[name], value) for name, value in model.state_encoder.named_buffers())


def test_copies_are_sample_major_and_the_sequence_is_not_weighted():
    sequence, signals, scalars = make_inputs()
    model = build(n_states=2).eval()
    seen = backbone_inputs(model)
    states = model(sequence, signals, scalars).state_weights
    copies = seen[0].view(GENES, 3, WINDOW, 8)
    dna, signal = model.sequence_layer(sequence), model.signal_layer(signals)
    torch.testing.assert_close(copies[:, 0], dna + signal)
    for i in range(2):
        torch.testing.assert_close(copies[:, 1 + i], dna + signal * states[:, None, :, i])


def test_an_unknown_base_still_gets_the_bias():
    model = build(n_states=0, inputs=InputShape(0, 0))
    seen = backbone_inputs(model)
    model(torch.zeros(1, WINDOW, 4), None)
    torch.testing.assert_close(seen[0], model.sequence_layer.bias.expand(1, WINDOW, 8))


@pytest.mark.parametrize(("window", "centre", "first", "last"), [(97, 50, 23, 73), (96, 51, 22, 73), (70, 2000, 0, 70)])
def test_head_sees_the_centre_clamped_to_the_window(window, centre, first, last):
    model = build(n_states=0, centre_bp=centre)
    hidden, pooled = [], []
    model.backbone.register_forward_hook(lambda module, given, result: hidden.append(result))
    model.head.register_forward_pre_hook(lambda module, given: pooled.append(given[0]))
    sequence, signals, scalars = make_inputs(n_positions=window)
    model(sequence, signals, scalars)
    expected = torch.cat([hidden[0][:, first:last].mean(dim=1), scalars], dim=1)
    torch.testing.assert_close(pooled[0], expected)


@pytest.mark.parametrize(
    ("inputs", "n_states"),
    [
        (InputShape(0, 0), 0),
        (InputShape(0, 2), 0),
        (InputShape(3, 0), 2),
        (InputShape(3, 2, sequence=False), 2),
        (InputShape(3, 0, sequence=False), 1),
    ],
)
def test_any_part_of_the_inputs(inputs, n_states):
    model = build(inputs=inputs, n_states=n_states)
    sequence, signals, scalars = make_inputs()
    output = model(
        sequence if inputs.sequence else None,
        signals if inputs.n_signals else None,
        scalars if inputs.n_scalars else None,
    )
    assert torch.isfinite(output.plain).all()
    assert (model.sequence_layer is not None) == inputs.sequence
    assert (model.signal_layer is not None) == bool(inputs.n_signals)


def test_same_seed_same_weights_and_each_part_its_own_draw():
    state = torch.random.get_rng_state()
    one, same, other = build(seed=5, n_states=2), build(seed=5, n_states=2), build(seed=6, n_states=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    without = build(seed=5, n_states=0).state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
        if name in without:
            assert torch.equal(value, without[name]), f"{name} depends on the number of states"
    assert not torch.equal(one.backbone.blocks[0].in_proj.weight, other.backbone.blocks[0].in_proj.weight)


def test_without_a_seed_the_global_generator_draws():
    torch.manual_seed(0)
    one = build(seed=None)
    torch.manual_seed(0)
    same, other = build(seed=None), build(seed=None)
    assert torch.equal(one.head[0].weight, same.head[0].weight)
    assert not torch.equal(one.head[0].weight, other.head[0].weight)


def test_compiled_and_reference_model_agree_in_value_and_gradient():
    inputs, target = make_inputs(), torch.linspace(-1, 1, GENES)
    gradients = {}
    for name, dtype in (("numba", torch.float32), ("reference", torch.float64)):
        model = build(n_states=2).to(dtype).train()
        set_kernel(model, name)
        losses = prism_loss(model(*inputs), target, 1.0, 1.0)
        losses.total.backward()
        gradients[name] = (losses.total, {key: value.grad.double() for key, value in model.named_parameters()})
    assert gradients["numba"][0].item() == pytest.approx(gradients["reference"][0].item(), abs=1e-6)
    for key, expected in gradients["reference"][1].items():
        got = gradients["numba"][1][key]
        # A convolution's bias has no gradient before batch normalisation: its rounding is no error.
        assert (got - expected).norm() <= 1e-5 * expected.norm() + 1e-6, key


def test_bfloat16_autocast_stays_near_float32():
    model = build(n_states=2).train()
    inputs, target = make_inputs(), torch.linspace(-1, 1, GENES)
    exact = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(*inputs)
        losses = prism_loss(mixed, target, 1.0, 1.0)
    losses.total.backward()
    assert mixed.plain.dtype is losses.total.dtype is torch.float32
    torch.testing.assert_close(mixed.plain, exact.plain, rtol=0, atol=0.02)
    torch.testing.assert_close(mixed.adjusted, exact.adjusted, rtol=0, atol=0.02)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_same_input_same_output_twice():
    model, inputs = build(n_states=2).train(), make_inputs()
    assert torch.equal(model(*inputs).plain, model(*inputs).plain)


def test_states_without_signals_are_refused():
    with pytest.raises(ConfigError, match=r"model\.n_states: 2 background states have no signals"):
        build(n_states=2, inputs=InputShape(0, 2))


def test_impossible_inputs_are_refused():
    with pytest.raises(ConfigError) as raised:
        InputShape(-1, -2)
    assert [fault.where for fault in raised.value.faults] == ["n_signals", "n_scalars"]
    with pytest.raises(ConfigError, match="the model would see nothing along the window"):
        InputShape(0, 3, sequence=False)


def test_short_windows_need_a_model_without_states():
    inputs = make_inputs(n_positions=63)
    with pytest.raises(
        ConfigError, match=r"data\.window_bp: 63 is too short .* use at least 64, or model\.n_states: 0"
    ):
        build(n_states=1)(*inputs)
    assert build(n_states=1)(*make_inputs(n_positions=64)).adjusted is not None
    assert build(n_states=0)(*inputs).plain.shape == (GENES,)


def test_adjusted_path_of_a_model_without_states_is_refused():
    with pytest.raises(InputError, match="'adjusted' was asked of a model with n_states 0"):
        build(n_states=0)(*make_inputs(), paths="adjusted")


def test_wrong_inputs_are_reported_together():
    sequence, signals, scalars = make_inputs()
    model = build(n_states=0)
    with pytest.raises(InputError) as raised:
        model(sequence[..., :3], signals[:, :-1], None)
    text = str(raised.value)
    assert len(raised.value.faults) == 2
    assert "sequence: has shape (4, 96, 3); expected (B, L, 4)" in text
    assert "scalars: is missing; this model expects (B, 2)" in text
    with pytest.raises(InputError, match=r"signals: has shape \(4, 95, 3\); expected \(4, 96, 3\)"):
        model(sequence, signals[:, :-1], scalars)
    with pytest.raises(InputError, match=r"scalars: has shape \(3, 2\); expected \(4, 2\)"):
        model(sequence, signals, scalars[:3])
    with pytest.raises(InputError, match="sequence: is missing"):
        model(None, signals, scalars)
    with pytest.raises(InputError, match=r"signals: has shape \(4, 96, 3\); this model was built without it"):
        build(n_states=0, inputs=InputShape(0, 2))(sequence, signals, scalars)
