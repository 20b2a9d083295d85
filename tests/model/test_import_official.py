"""Published checkpoints become model folders: sizes from shapes, the same predictions, faults by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from prism_ray.cli import main
from prism_ray.errors import CheckpointError
from prism_ray.model import load
from prism_ray.model.import_official import PUBLISHED_SCALARS, import_official
from tests.conftest import REPOSITORY
from tests.model.test_checkpoint_official import official_weights

GOLDEN = REPOSITORY.parent / "shared" / "data" / "golden" / "small_ctx4_nornafeat.npz"
SIGNALS = ("h3k27ac", "dnase", "hic")


def write_checkpoint(path: Path, weights: dict[str, torch.Tensor]) -> Path:
    torch.save({"epoch": 3, "state_dict": {f"model.{name}": value for name, value in weights.items()}}, path)
    return path


@pytest.mark.parametrize(
    ("d", "n_layers", "n_states", "n_signals", "n_scalars", "c"),
    [(16, 2, 2, 3, 9, 8), (32, 1, 8, 1, 0, 4), (20, 3, 1, 2, 5, 8)],
)
def test_sizes_follow_from_the_shapes(
    d: int, n_layers: int, n_states: int, n_signals: int, n_scalars: int, c: int, tmp_path: Path
) -> None:
    weights = official_weights(d, n_layers, n_states, n_signals, n_scalars, c)
    model = import_official(write_checkpoint(tmp_path / "a.ckpt", weights), signals=SIGNALS[:n_signals])
    config = model.config
    assert (config.d_model, config.n_layers, config.n_states, config.confounder_channels) == (d, n_layers, n_states, c)
    assert (config.d_state, config.d_conv, config.expand) == (16, 4, 2)
    assert (model.inputs.n_signals, model.inputs.n_scalars, model.inputs.sequence) == (n_signals, n_scalars, True)
    assert model.trained_on is not None
    expected = PUBLISHED_SCALARS if n_scalars == 9 else tuple(f"scalar_{k}" for k in range(1, n_scalars + 1))
    assert model.trained_on.scalars == expected


def test_a_checkpoint_of_the_published_model_predicts_what_it_predicted(tmp_path: Path) -> None:
    if not GOLDEN.is_file():
        pytest.skip(f"the golden vector is not at {GOLDEN}")
    golden = np.load(GOLDEN)
    weights = {name[3:]: torch.from_numpy(golden[name]) for name in golden.files if name.startswith("sd/")}
    checkpoint = write_checkpoint(tmp_path / "golden.ckpt", weights)
    meta = json.loads(bytes(golden["meta_json"]))
    assert main(["import-checkpoint", str(checkpoint), "--out", str(tmp_path / "model"), "--centre-bp", "512"]) == 0
    model = load(tmp_path / "model")
    assert model.config.n_states == 4, meta
    with torch.inference_mode():
        output = model(torch.from_numpy(golden["in/seqs"]), torch.from_numpy(golden["in/signals"]))
    np.testing.assert_allclose(output.plain.numpy(), golden["eval/logits"].reshape(-1), atol=1e-5)
    np.testing.assert_allclose(output.adjusted.numpy(), golden["eval/intervention_logits"].reshape(-1), atol=1e-5)


def test_what_shapes_do_not_tell_comes_from_the_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", official_weights())
    flags = ["--signals", "a, b,c", "--centre-bp", "500", "--weight-activation", "softmax", "--average", "prediction"]
    assert main(["import-checkpoint", str(checkpoint), "--out", str(tmp_path / "model"), *flags]) == 0
    model = load(tmp_path / "model")
    assert (model.config.centre_bp, model.config.weight_activation, model.config.average) == (
        500,
        "softmax",
        "prediction",
    )
    assert model.trained_on is not None
    assert model.trained_on.signals == ("a", "b", "c")
    assert "n 2, 3 signals, 9 scalars" in capsys.readouterr().out


def test_unknown_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    weights = official_weights()
    del weights["pToExpr.4.bias"]
    weights["pToExpr.2.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError) as refused:
        import_official(write_checkpoint(tmp_path / "a.ckpt", weights), signals=SIGNALS)
    assert "head.4.bias: is missing" in str(refused.value)
    assert "head.2.weight: has shape (3, 3); the settings expect (16, 16)" in str(refused.value)
    weights = {**official_weights(), "something.else": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"something\.else: is not a weight of the published model"):
        import_official(write_checkpoint(tmp_path / "b.ckpt", weights), signals=SIGNALS)


def test_faults_of_the_file_end_the_command_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.ckpt"
    text.write_text("not a checkpoint")
    bare = tmp_path / "bare.ckpt"
    torch.save([1, 2], bare)
    other = write_checkpoint(tmp_path / "other.ckpt", {})
    good = write_checkpoint(tmp_path / "good.ckpt", official_weights())
    for path, flags, message in (
        (tmp_path / "none.ckpt", [], "no such file"),
        (text, [], "cannot be read as tensors and plain values"),
        (bare, [], "has no state_dict of tensors"),
        (other, [], "is missing; this is not a checkpoint of the published model"),
        (good, ["--signals", "h3k27ac"], "was trained on 3 signals, 1 names are given"),
    ):
        assert main(["import-checkpoint", str(path), "--out", str(tmp_path / "model"), *flags]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((32,), r"A_log: has shape \(32,\); the published model has 2 sizes of at least 1 here"),
        ((32, 0), r"A_log: has shape \(32, 0\); the published model has 2"),
        ((8, 16), r"expand: 0: input should be greater than or equal to 1"),
    ],
)
def test_shapes_that_tell_no_sizes_are_refused(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    weights = official_weights()
    other = {f"caduceus.backbone.layers.0.mixer.mamba_{way}.A_log": torch.zeros(shape) for way in ("fwd", "rev")}
    assert weights.keys() >= other.keys()
    path = write_checkpoint(tmp_path / "a.ckpt", weights | other)
    with pytest.raises(CheckpointError, match=message):
        import_official(path, signals=SIGNALS)


def test_weights_without_names_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {3: torch.zeros(2)}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="has no state_dict of tensors by name"):
        import_official(tmp_path / "a.ckpt", signals=SIGNALS)


def test_a_checkpoint_with_a_damaged_index_is_refused(tmp_path: Path) -> None:
    """A place of a tensor begins with a word that the pickle remembers, here by a number that it has not."""
    content = bytearray(write_checkpoint(tmp_path / "a.ckpt", official_weights()).read_bytes())
    content[content.index(b"(h", content.index(b"FloatStorage")) + 2] = 0xFF
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as tensors and plain values"):
        import_official(tmp_path / "a.ckpt", signals=SIGNALS)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"state_dict": official_weights(), "evil": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read as tensors and plain values"):
        import_official(tmp_path / "evil.ckpt", signals=SIGNALS)
    assert not (tmp_path / "ran").exists()
