"""The published model's outputs, losses, gradients and batch-norm buffers for random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Output, Prism, prism_loss, set_kernel
from prism_ray.model.checkpoint_official import from_official_state_dict

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "data" / "golden" / "small_ctx4_nornafeat.npz"

pytestmark = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"the golden vector is not at {GOLDEN}")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as archive:
        return dict(archive)


def build(golden: dict[str, np.ndarray], kernel: str, dtype: torch.dtype) -> Prism:
    settings = json.loads(golden["meta_json"].tobytes())["config"]
    config = ModelConfig(
        d_model=settings["d_model"],
        n_layers=settings["n_layer"],
        n_states=settings["n_context"],
        confounder_channels=settings["cnn_dim"],
        centre_bp=settings["center_len"],
    )
    model = Prism(config, InputShape(n_signals=3, n_scalars=0))
    official = {name[3:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("sd/")}
    model.load_state_dict(from_official_state_dict(official))
    set_kernel(model, kernel)
    return model.to(dtype)


def run(model: Prism, golden: dict[str, np.ndarray], dtype: torch.dtype) -> tuple[Output, torch.Tensor]:
    sequence = torch.from_numpy(golden["in/seqs"]).to(dtype)
    signals = torch.from_numpy(golden["in/signals"]).to(dtype)
    target = torch.from_numpy(golden["in/target"]).to(dtype)[:, 0]
    return model(sequence, signals), target


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize(
    ("kernel", "dtype", "suffix", "tolerance"),
    [("auto", torch.float32, "", 1e-5), ("reference", torch.float64, "64", 2e-7)],
)
def test_values_and_losses_match(golden, mode, kernel, dtype, suffix, tolerance):
    model = build(golden, kernel, dtype).train(mode == "train")
    output, target = run(model, golden, dtype)
    losses = prism_loss(output, target, alpha=1.0, beta=1.0)
    got = {
        "logits": output.plain[:, None],
        "intervention_logits": output.adjusted[:, None],
        "uniform_loss": losses.diversity,
        "L1": losses.prediction,
        "L2": losses.adjustment,
        "L3": losses.diversity,
        "total_loss": losses.total,
    }
    for name, value in got.items():
        expected = golden[f"{mode}{suffix}/{name}"]
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(output.state_weights.detach().numpy(), golden[f"{mode}/context_weights"], atol=1e-5)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_hidden_states_are_sample_major_with_the_plain_copy_first(golden, mode):
    model = build(golden, "auto", torch.float32).train(mode == "train")
    seen = []
    model.backbone.register_forward_hook(lambda module, given, result: seen.append(result))
    run(model, golden, torch.float32)
    length = golden["in/seqs"].shape[1]
    probe = seen[0][:, [0, 1, length // 2, length - 1]]
    np.testing.assert_allclose(probe.detach().numpy(), golden[f"{mode}/hidden_probe"], atol=2e-5)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_gradients_match(golden, mode):
    model = build(golden, "auto", torch.float32).train(mode == "train")
    output, target = run(model, golden, torch.float32)
    prism_loss(output, target, alpha=1.0, beta=1.0).total.backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    prefix = f"{mode}_grad/"
    compared = 0
    for key in (key for key in golden if key.startswith(prefix)):
        official = key.removeprefix(prefix)
        got = ours[one_name(official)].numpy().astype(np.float64)
        expected = golden[key].astype(np.float64)
        assert np.linalg.norm(got - expected) <= 1e-4 * np.linalg.norm(expected), official
        compared += 1
    assert compared == 13
    norm = torch.sqrt(sum(gradient.double().square().sum() for gradient in ours.values()))
    assert norm.item() == pytest.approx(float(golden[f"{mode}64/grad_norm"]), rel=1e-4)


def one_name(official: str) -> str:
    """Our name of one published weight; a shared one is completed by its other copy."""
    weights = {official: torch.zeros(1)}
    if "_proj" in official and (".in_" in official or ".out_" in official):
        weights[official.replace("mamba_fwd", "mamba_rev")] = torch.zeros(1)
    return next(iter(from_official_state_dict(weights)))


def test_training_moves_the_batch_norm_buffers_alike(golden):
    model = build(golden, "auto", torch.float32).train()
    run(model, golden, torch.float32)
    buffers = dict(model.named_buffers())
    for key in (key for key in golden if key.startswith("bn_after/")):
        ours = buffers[one_name(key.removeprefix("bn_after/"))]
        np.testing.assert_allclose(ours.numpy(), golden[key], rtol=1e-5, atol=1e-6, err_msg=key)
