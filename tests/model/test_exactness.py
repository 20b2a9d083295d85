"""The model against its published formulas, stated once more here in float64: a gene and a copy at a time.

Nothing of the model's code is used for the expected values: weights are taken by name and every step is written
out. Compared are predictions, states, losses, gradients of all weights, and batch-norm buffers.

Legend: L positions in bp, S signals, K scalars, D channels, E inner channels, N state size, R rank, n states.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Output, Prism, prism_loss

D, INNER, STATE, RANK, GENES = 4, 8, 3, 1, 3
TEMPERATURE = 2.0


@dataclass
class Stated:
    """What the formulas give."""

    plain: Tensor
    adjusted: Tensor | None = None
    states: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


Weights = dict[str, Tensor]


def encoder(w: Weights, signals: Tensor, n: int, activation: str, training: bool, out: Stated) -> Tensor:
    """(B, D, n): three times convolution, batch norm, ReLU, pooling by 4; then mean, linear layer, activation."""
    x = signals.transpose(1, 2)  # (B, S, L)
    for block, width in enumerate((7, 5, 3)):
        name = f"state_encoder.convolutions.{4 * block}"
        padded = F.pad(x, (width // 2, width // 2))
        kernel = w[f"{name}.weight"]
        shifted = torch.stack([padded[:, :, k : k + x.shape[2]] for k in range(width)], dim=-1)  # (B, S, L, width)
        x = torch.einsum("bslk,csk->bcl", shifted, kernel) + w[f"{name}.bias"][:, None]
        norm = f"state_encoder.convolutions.{4 * block + 1}"
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        if training:
            count = x.shape[0] * x.shape[2]
            mean = x.mean(dim=(0, 2))
            variance = ((x - mean[:, None]) ** 2).mean(dim=(0, 2))
            unbiased = variance.detach() * count / (count - 1)
            out.buffers[f"{norm}.running_mean"] = 0.9 * w[f"{norm}.running_mean"] + 0.1 * mean.detach()
            out.buffers[f"{norm}.running_var"] = 0.9 * w[f"{norm}.running_var"] + 0.1 * unbiased
        x = (x - mean[:, None]) / torch.sqrt(variance + 1e-5)[:, None]
        x = torch.relu(x * w[f"{norm}.weight"][:, None] + w[f"{norm}.bias"][:, None])
        x = torch.stack([x[:, :, 4 * i : 4 * i + 4].amax(dim=2) for i in range(x.shape[2] // 4)], dim=2)
    projection = "state_encoder.projection"
    logits = x.mean(dim=2) @ w[f"{projection}.weight"].T + w[f"{projection}.bias"]  # (B, D * n), n fastest
    logits = torch.stack([logits[:, i::n] for i in range(n)], dim=2)  # (B, D, n)
    if activation == "sigmoid":
        return 1 / (1 + torch.exp(-logits))
    return torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + 1e-5) * weight


def direction(w: Weights, name: str, x: Tensor, backwards: bool) -> Tensor:
    """One direction of a block for one copy of one gene: (L, E) -> (L, E)."""
    order = range(x.shape[0] - 1, -1, -1) if backwards else range(x.shape[0])
    x = torch.stack([x[t] for t in order])
    taps, length = w[f"{name}.conv.weight"][:, 0], x.shape[0]  # (E, 4)
    padded = torch.cat([x.new_zeros(3, x.shape[1]), x])
    u = F.silu(sum(padded[k : k + length] * taps[:, k] for k in range(4)) + w[f"{name}.conv.bias"])
    projected = u @ w[f"{name}.x_proj.weight"].T
    step, b, c = projected[:, :RANK], projected[:, RANK : RANK + STATE], projected[:, RANK + STATE :]
    delta = F.softplus(step @ w[f"{name}.dt_proj.weight"].T + w[f"{name}.dt_proj.bias"])  # (L, E)
    a = -torch.exp(w[f"{name}.A_log"])  # (E, N)
    h = x.new_zeros(x.shape[1], STATE)
    outputs = []
    for t in range(length):
        h = torch.exp(delta[t][:, None] * a) * h + (delta[t] * u[t])[:, None] * b[t]
        outputs.append(h @ c[t] + w[f"{name}.D"] * u[t])
    return torch.stack(outputs[::-1] if backwards else outputs)


def backbone(w: Weights, x: Tensor, n_layers: int) -> Tensor:
    """(L, D) -> (L, D)."""
    for layer in range(n_layers):
        block = f"backbone.blocks.{layer}"
        both = rms_norm(x, w[f"{block}.norm.weight"]) @ w[f"{block}.in_proj.weight"].T
        inner, gate = both[:, :INNER], F.silu(both[:, INNER:])
        forward = direction(w, f"{block}.left_to_right", inner, False) * gate
        reverse = direction(w, f"{block}.right_to_left", inner, True) * gate
        x = x + forward @ w[f"{block}.out_proj.weight"].T + reverse @ w[f"{block}.out_proj.weight"].T
    return rms_norm(x, w["backbone.norm.weight"])


def head(w: Weights, pooled: Tensor, scalars: Tensor | None) -> Tensor:
    x = pooled if scalars is None else torch.cat([pooled, scalars])
    for layer in (0, 2):
        x = torch.relu(w[f"head.{layer}.weight"] @ x + w[f"head.{layer}.bias"])
    return (w["head.4.weight"] @ x + w["head.4.bias"])[0]


def smooth_l1(prediction: Tensor, target: Tensor) -> Tensor:
    terms = []
    for p, y in zip(prediction, target, strict=True):
        off = (p - y).abs()
        terms.append(0.5 * off**2 if off < 1 else off - 0.5)
    return torch.stack(terms).mean()


def diversity(states: Tensor) -> Tensor:
    terms = []
    for a in states:  # (D, n)
        unit = [a[:, i] / torch.sqrt((a[:, i] ** 2).sum()) for i in range(a.shape[1])]
        terms.append(torch.log(sum(torch.exp(2 * TEMPERATURE * (u @ v) - 2 * TEMPERATURE) for u in unit for v in unit)))
    return torch.stack(terms).mean()


def stated(
    w: Weights, config: ModelConfig, inputs: tuple[Tensor, Tensor, Tensor | None], target: Tensor, training: bool
) -> Stated:
    """Everything that the method says of a batch."""
    sequence, signals, scalars = inputs
    out = Stated(target)
    n = config.n_states
    if n:
        out.states = encoder(w, signals, n, config.weight_activation, training, out)
    kept = min(config.centre_bp, sequence.shape[1])
    start = (sequence.shape[1] - kept) // 2
    plain, adjusted = [], []
    for gene in range(sequence.shape[0]):
        own = None if scalars is None else scalars[gene]
        dna = sequence[gene] @ w["sequence_layer.weight"].T + w["sequence_layer.bias"]
        signal = signals[gene] @ w["signal_layer.weight"].T + w["signal_layer.bias"]
        weights = [torch.ones(D, dtype=torch.float64)]
        weights += [] if out.states is None else [out.states[gene, :, i] for i in range(n)]
        pooled = [
            backbone(w, dna + signal * weight, config.n_layers)[start : start + kept].mean(dim=0) for weight in weights
        ]
        plain.append(head(w, pooled[0], own))
        if n and config.average == "hidden":
            adjusted.append(head(w, torch.stack(pooled[1:]).mean(dim=0), own))
        elif n:
            adjusted.append(torch.stack([head(w, one, own) for one in pooled[1:]]).mean())
    out.plain = torch.stack(plain)
    out.losses["prediction"] = smooth_l1(out.plain, target)
    zero = target.new_zeros(())
    out.losses["adjustment"] = out.losses["diversity"] = zero
    if out.states is not None:
        out.adjusted = torch.stack(adjusted)
        out.losses["adjustment"] = smooth_l1(out.adjusted, target)
    if out.states is not None and n > 1:
        out.losses["diversity"] = diversity(out.states)
    return out


@dataclass(frozen=True)
class Case:
    """Settings and sizes of a comparison."""

    n: int = 2
    activation: str = "sigmoid"
    average: str = "hidden"
    n_signals: int = 3
    n_scalars: int = 2
    window: int = 70
    centre: int = 40
    n_layers: int = 1
    training: bool = True
    predict_with: str = "plain"

    def __str__(self) -> str:
        changed = {name: value for name, value in vars(self).items() if value != getattr(Case, name)}
        return ",".join(f"{name}={value}" for name, value in changed.items()) or "published"

    def build(self) -> Prism:
        config = ModelConfig.model_validate(
            {
                **{"d_model": D, "d_state": STATE, "n_layers": self.n_layers, "confounder_channels": 2},
                **{"n_states": self.n, "weight_activation": self.activation, "average": self.average},
                **{"centre_bp": self.centre, "predict_with": self.predict_with},
            }
        )
        model = Prism(config, InputShape(self.n_signals, self.n_scalars), seed=5)
        generator = torch.Generator().manual_seed(6)
        with torch.no_grad():
            # Initial values hide mistakes: norms of 1, biases of 0, statistics of 0 and 1.
            for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
                if tensor.is_floating_point() and "A_log" not in name:
                    tensor.mul_(1 + 0.3 * torch.rand(tensor.shape, generator=generator))
                    tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
        return model.train(self.training)

    def inputs(self) -> tuple[tuple[Tensor, Tensor, Tensor | None], Tensor]:
        generator = torch.Generator().manual_seed(7)
        bases = torch.randint(0, 5, (GENES, self.window), generator=generator)
        sequence = F.one_hot(bases, 5)[..., :4].float()  # code 4 is N: all zeros
        signals = 3 * torch.rand(GENES, self.window, self.n_signals, generator=generator)
        scalars = torch.randn(GENES, self.n_scalars, generator=generator) if self.n_scalars else None
        return (sequence, signals, scalars), torch.tensor([-0.4, 0.3, 4.0])  # both branches of the loss


CASES = [
    Case(),
    *(Case(n=n) for n in (0, 1, 3, 5, 6, 7)),
    Case(n=8, window=64, centre=64),
    *(Case(n=n, activation="softmax", average="prediction") for n in (1, 4)),
    Case(activation="softmax", n_signals=1, n_scalars=0),
    Case(average="prediction", n_signals=2, n_scalars=0, predict_with="adjusted"),
    Case(n_signals=4, n_layers=2, n_scalars=9),
    Case(window=71, centre=33),
    Case(window=71, centre=34),
    Case(window=70, centre=33),
    Case(window=66, centre=2000),
    Case(n=0, window=5, centre=3),
    Case(training=False),
    Case(n=3, activation="softmax", average="prediction", training=False, predict_with="adjusted"),
]


def close(given: Tensor | None, wanted: Tensor | None, tolerance: float = 1e-5) -> None:
    assert (given is None) == (wanted is None)
    if given is not None and wanted is not None:
        torch.testing.assert_close(given.detach().double(), wanted.detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_losses_gradients_and_buffers(case: Case) -> None:
    model = case.build()
    parameters = dict(model.named_parameters())
    w = {name: value.detach().double().requires_grad_(name in parameters) for name, value in model.state_dict().items()}
    inputs, target = case.inputs()
    doubles = tuple(None if value is None else value.double() for value in inputs)
    wanted = stated(w, model.config, doubles, target.double(), case.training)  # type: ignore[arg-type]
    output = model(*inputs)
    close(output.plain, wanted.plain)
    close(output.adjusted, wanted.adjusted)
    close(output.state_weights, wanted.states)

    alpha, beta = 0.7, 0.4
    losses = prism_loss(output, target, alpha, beta)
    for name, value in wanted.losses.items():
        close(getattr(losses, name), value)
    total = wanted.losses["prediction"] + alpha * wanted.losses["adjustment"] + beta * wanted.losses["diversity"]
    close(losses.total, total)

    losses.total.backward()
    total.backward()
    for name, parameter in parameters.items():
        if parameter.grad is None:
            assert w[name].grad is None, name
            continue
        expected = w[name].grad
        assert expected is not None, name
        # A convolution's bias has no gradient before a batch norm in training: what is left there is rounding.
        off = (parameter.grad.double() - expected).norm().item()
        assert off <= 1e-4 * expected.norm().item() + 1e-6, name
    for name, buffer in wanted.buffers.items():
        close(model.state_dict()[name], buffer)


@pytest.mark.parametrize("predict_with", ["plain", "adjusted"])
def test_one_path_alone_is_the_same_path(predict_with: str) -> None:
    case = Case(predict_with=predict_with, average="prediction", training=False)
    model, (inputs, _) = case.build(), case.inputs()
    with torch.inference_mode():
        both, alone = model(*inputs), model(*inputs, paths=predict_with)
    torch.testing.assert_close(getattr(alone, predict_with), getattr(both, predict_with))


def gradients(case: Case, alpha: float, beta: float) -> tuple[dict[str, Tensor | None], Output]:
    """Gradient of every weight, and what the model gave."""
    model, (inputs, target) = case.build(), case.inputs()
    output = model(*inputs)
    prism_loss(output, target, alpha, beta).total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, output


class TestIndependentSettings:
    """n, alpha and beta are three settings: none of them turns another off."""

    def test_alpha_0_keeps_the_encoder_and_its_diversity(self) -> None:
        model, (inputs, target) = Case().build(), Case().inputs()
        assert model.state_encoder is not None
        losses = prism_loss(model(*inputs), target, alpha=0.0, beta=1.0)
        assert losses.adjustment > 0
        assert losses.diversity != 0
        torch.testing.assert_close(losses.total, losses.prediction + losses.diversity)

    def test_with_alpha_0_only_the_diversity_trains_the_encoder(self) -> None:
        with_both, _ = gradients(Case(), 0.0, 1.0)
        twice, _ = gradients(Case(), 0.0, 2.0)
        neither, _ = gradients(Case(), 0.0, 0.0)
        plain, _ = gradients(Case(n=0), 1.0, 1.0)
        for name, gradient in with_both.items():
            assert gradient is not None
            if name.startswith("state_encoder"):
                assert neither[name] is None or neither[name].abs().max() == 0, name  # type: ignore[union-attr]
                torch.testing.assert_close(twice[name], 2 * gradient, rtol=1e-3, atol=1e-6)
            else:
                # Neither adjustment nor diversity reaches the rest of the network: it trains as without states.
                torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6)
        assert with_both["state_encoder.projection.weight"].abs().max() > 1e-6  # type: ignore[union-attr]

    def test_with_beta_0_only_the_adjustment_trains_the_encoder(self) -> None:
        one, _ = gradients(Case(), 1.0, 0.0)
        other, _ = gradients(Case(), 1.0, 1.0)
        name = "state_encoder.projection.weight"
        assert one[name].abs().max() > 1e-9  # type: ignore[union-attr]
        assert not torch.equal(one[name], other[name])  # type: ignore[arg-type]
        rest = [name for name in one if not name.startswith("state_encoder")]
        for name in rest:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (1.0, 1.0), (3.0, 5.0)])
    def test_without_states_alpha_and_beta_do_nothing(self, alpha: float, beta: float) -> None:
        model, (inputs, target) = Case(n=0).build(), Case(n=0).inputs()
        assert model.state_encoder is None
        assert not any("state_encoder" in name for name in model.state_dict())
        losses = prism_loss(model(*inputs), target, alpha, beta)
        assert losses.adjustment == losses.diversity == 0
        assert torch.equal(losses.total, losses.prediction)

    def test_the_weights_of_the_losses_change_no_parameter_and_no_prediction(self) -> None:
        (_, one), (_, other) = gradients(Case(), 0.0, 0.0), gradients(Case(), 1.0, 1.0)
        assert one.plain is not None
        assert torch.equal(one.plain, other.plain)  # type: ignore[arg-type]
        assert torch.equal(one.adjusted, other.adjusted)  # type: ignore[arg-type]

    def test_a_single_state_has_no_diversity(self) -> None:
        model, (inputs, target) = Case(n=1).build(), Case(n=1).inputs()
        losses = prism_loss(model(*inputs), target, 1.0, 1.0)
        assert losses.diversity == 0
        assert losses.adjustment > 0


def test_values_that_are_not_numbers_are_named_with_their_genes() -> None:
    model, (inputs, _) = Case().build(), Case().inputs()
    sequence, signals, scalars = inputs
    assert scalars is not None
    signals[1, 3, 0] = float("nan")
    scalars[0, 1], scalars[2, 0] = float("inf"), float("nan")
    with pytest.raises(ValueError, match="2 faults") as raised:
        model(sequence, signals, scalars)
    assert "signals: has values that are NaN or infinite in 1 of 3 genes; give 0 where" in str(raised.value)
    assert "scalars: has values that are NaN or infinite in 2 of 3 genes" in str(raised.value)


def test_large_values_are_numbers() -> None:
    """Their sum is infinite in float32; they are not."""
    model, (inputs, _) = Case(n=0).build(), Case(n=0).inputs()
    inputs[1][...] = 3e38
    model(*inputs)
