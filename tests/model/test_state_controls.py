"""States that are not learned: what they are, that they have no parameters, and that their model is the same one."""

from __future__ import annotations

import math

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.errors import ConfigError
from prism_ray.model import InputShape, Prism, count_parameters, load, prism_loss, save
from prism_ray.model.confounders import ConfounderEncoder
from prism_ray.model.state_controls import INITIAL_LOGIT_STD, DropoutStates, RandomStates
from prism_ray.workload import n_parameters

INPUTS = InputShape(n_signals=3, n_scalars=2)
CONTROLS = ["random", "dropout"]
GENES, WINDOW = 4, 96


def build(states: str, *, seed: int = 3, **settings: object) -> Prism:
    small = {"d_model": 8, "n_layers": 1, "d_state": 4, "centre_bp": 50, "states": states, "n_states": 3}
    return Prism(ModelConfig.model_validate({**small, **settings}), INPUTS, seed=seed)


def make_inputs(n_genes: int = GENES) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    bases = torch.randint(0, 4, (n_genes, WINDOW), generator=generator)
    signals = torch.rand(n_genes, WINDOW, 3, generator=generator)
    return torch.nn.functional.one_hot(bases, 4).float(), signals, torch.randn(n_genes, 2, generator=generator)


@pytest.mark.parametrize("states", CONTROLS)
def test_a_control_has_the_parameters_of_plain_training(states: str) -> None:
    assert count_parameters(build(states)) == count_parameters(
        Prism(ModelConfig(d_model=8, n_layers=1, d_state=4, n_states=0), INPUTS)
    )
    config = ModelConfig.model_validate({"states": states})
    assert n_parameters(config, 3, 9, sequence=True) == 574_721


@pytest.mark.parametrize("states", CONTROLS)
def test_every_other_part_starts_as_with_learned_states(states: str) -> None:
    learned, control = build("learned").state_dict(), build(states).state_dict()
    shared = [name for name in learned if not name.startswith("state_encoder")]
    assert set(shared) == {name for name in control if not name.startswith("state_encoder")}
    assert all(torch.equal(learned[name], control[name]) for name in shared)


class TestRandom:
    @pytest.mark.parametrize("average", ["hidden", "prediction"])
    def test_adjusted_path_by_hand(self, average: str) -> None:
        """Copy i is a model without states whose signal layer, bias included, is scaled by a_i."""
        model, inputs = build("random", average=average).eval(), make_inputs()
        encoder = model.state_encoder
        assert isinstance(encoder, RandomStates)
        weights = torch.linspace(0.1, 0.9, 24).view(8, 3)
        encoder.get_buffer("weights").copy_(weights)
        output = model(*inputs)
        torch.testing.assert_close(output.state_weights, weights.expand(GENES, 8, 3))
        pooled, predicted = [], []
        for i in range(3):
            twin = Prism(model.config.model_copy(update={"n_states": 0, "states": "learned"}), INPUTS, seed=3).eval()
            assert twin.signal_layer is not None
            with torch.no_grad():
                twin.signal_layer.weight.mul_(weights[:, i : i + 1])
                twin.signal_layer.bias.mul_(weights[:, i])
            twin.head.register_forward_pre_hook(lambda module, given: pooled.append(given[0]))
            predicted.append(twin(*inputs).plain)
        if average == "prediction":
            expected = torch.stack(predicted).mean(dim=0)
        else:
            expected = model.head(torch.stack(pooled).mean(dim=0)).squeeze(-1)
        torch.testing.assert_close(output.adjusted, expected, rtol=1e-5, atol=1e-6)

    def test_drawn_from_the_seed_alone_and_the_same_for_every_gene(self) -> None:
        one, again, other = build("random"), build("random"), build("random", seed=4)
        inputs = make_inputs()
        weights = one(*inputs).state_weights
        assert all(torch.equal(weights[0], weights[gene]) for gene in range(GENES))
        assert torch.equal(weights, again(*inputs).state_weights)
        assert not torch.equal(weights, other(*inputs).state_weights)
        assert len(set(weights[0].flatten().tolist())) == 24

    @pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
    def test_as_an_untrained_encoder_gives_them(self, activation: str) -> None:
        config = ModelConfig.model_validate({"n_states": 8, "weight_activation": activation})
        noise = torch.randn(8, 2000, 3, generator=torch.Generator().manual_seed(5))
        for signals in (noise, noise.cumsum(dim=1)):
            learned, drawn = [], []
            for seed in range(5):
                torch.manual_seed(seed)
                learned.append(ConfounderEncoder(config, 3).train()(signals).detach())
                drawn.append(RandomStates(config)(signals))
            ours, theirs = torch.cat(drawn), torch.cat(learned)
            assert ours.mean().item() == pytest.approx(theirs.mean().item(), rel=0.02)
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.35)
        if activation == "softmax":
            torch.testing.assert_close(ours.sum(dim=1), torch.ones(40, 8))

    def test_logits_have_the_stated_spread(self) -> None:
        torch.manual_seed(0)
        logits = torch.logit(RandomStates(ModelConfig(d_model=512, n_states=64))(torch.zeros(1, 1, 1)))
        assert logits.mean().item() == pytest.approx(0, abs=0.01)
        assert logits.std().item() == pytest.approx(INITIAL_LOGIT_STD, rel=0.02)

    def test_the_weights_are_saved_with_the_model(self, tmp_path) -> None:
        model, inputs = build("random").eval(), make_inputs()
        with torch.no_grad():
            model.state_encoder.get_buffer("weights").add_(0.05)  # not what the seed alone would give back
        save(model, tmp_path / "m", signals=("a", "b", "c"), scalars=("d", "e"))
        again = load(tmp_path / "m")
        assert again.config == model.config
        assert torch.equal(again(*inputs).adjusted, model(*inputs).adjusted)
        assert torch.equal(again(*inputs).state_weights, model(*inputs).state_weights)


class TestDropout:
    @pytest.mark.parametrize("keep", [0.5, 0.2])
    def test_expected_value_in_evaluation(self, keep: float) -> None:
        model, inputs = build("dropout", state_keep=keep).eval(), make_inputs()
        output = model(*inputs)
        assert torch.equal(output.state_weights, torch.full((GENES, 8, 3), keep))
        twin = Prism(model.config.model_copy(update={"n_states": 0, "states": "learned"}), INPUTS, seed=3).eval()
        assert twin.signal_layer is not None
        with torch.no_grad():
            twin.signal_layer.weight.mul_(keep)
            twin.signal_layer.bias.mul_(keep)
        torch.testing.assert_close(output.adjusted, twin(*inputs).plain, rtol=1e-5, atol=1e-6)

    def test_masks_of_kept_and_lost_channels_with_the_mean_of_untrained_weights(self) -> None:
        source = DropoutStates(ModelConfig.model_validate({"states": "dropout", "d_model": 64}))
        masks = torch.cat([source.drawn(2, step, 32, slice(None)) for step in range(30)])
        assert set(masks.unique().tolist()) == {0.0, 1.0}
        deviation = 0.5 / math.sqrt(masks.numel())
        assert masks.mean().item() == pytest.approx(0.5, abs=5 * deviation)
        kept = DropoutStates(ModelConfig.model_validate({"states": "dropout", "state_keep": 0.9}))
        assert kept.drawn(2, 0, 64, slice(None)).mean().item() == pytest.approx(0.9, abs=0.02)

    def test_masks_depend_on_seed_step_and_row_alone(self) -> None:
        source = DropoutStates(ModelConfig.model_validate({"states": "dropout", "d_model": 16}))
        whole = source.drawn(2, 7, 8, slice(None))
        assert torch.equal(torch.cat([source.drawn(2, 7, 8, slice(k, k + 2)) for k in (0, 2, 4, 6)]), whole)
        torch.manual_seed(99)
        torch.rand(5)
        assert torch.equal(source.drawn(2, 7, 8, slice(None)), whole)
        others = [source.drawn(3, 7, 8, slice(None)), source.drawn(2, 8, 8, slice(None))]
        assert not any(torch.equal(other, whole) for other in others)
        assert len({tuple(row.flatten().tolist()) for row in whole}) == 8

    def test_on_its_own_in_training_mode_it_masks_too(self) -> None:
        model = build("dropout").train()
        assert set(model(*make_inputs()).state_weights.unique().tolist()) == {0.0, 1.0}

    def test_a_state_without_a_channel_has_a_finite_loss(self) -> None:
        model = build("dropout", d_model=1, state_keep=0.01).train()
        output = model(*make_inputs())
        assert 0.0 in output.state_weights.sum(dim=1)
        losses = prism_loss(output, torch.zeros(GENES), 1.0, 1.0)
        assert torch.isfinite(losses.total)


@pytest.mark.parametrize("states", CONTROLS)
def test_without_signals_there_is_nothing_to_weigh(states: str) -> None:
    with pytest.raises(ConfigError, match="2 background states have no signals to weigh"):
        Prism(ModelConfig.model_validate({"states": states}), InputShape(0, 2))
