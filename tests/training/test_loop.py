"""The training loop: what it learns, repeats, resumes and refuses."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from prism_ray.config import RunConfig
from prism_ray.errors import CheckpointError, ConfigError, TrainingError
from prism_ray.metrics import regression_metrics
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.checkpoint import CHECKPOINT_NAME, load_state, save_state
from prism_ray.training.evaluate import predict_rows
from prism_ray.training.loop import train
from prism_ray.training.reporter import History, Placement, RunStoppedError


class Killed(BaseException):
    """Ends a run from inside, as a kill would."""


class Recorder:
    """Keeps every report; dies at a step, or has the run stopped there, where told to."""

    def __init__(self, die_at: int | None = None, stop_at: int | None = None) -> None:
        self.reports: list[tuple[int, dict[str, float]]] = []
        self._die_at = die_at
        self._stop_at = stop_at

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        self.reports.append((step, dict(metrics)))
        if step == self._die_at:
            raise Killed

    def validated(self, metrics: Mapping[str, float], step: int, history: History) -> bool:
        self.reports.append((step, dict(metrics)))
        assert history[-1] == {"step": float(step), **metrics}
        return step == self._stop_at


def changed(config: RunConfig, section: str, **values: object) -> RunConfig:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def weights(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    left, right = weights(first), weights(second)
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_learns_what_the_first_signal_says(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    result = train(changed(config, "training", n_steps=120), arrays, split)
    assert result.metrics["test/pearson_r"] > 0.9
    assert result.metrics["test/mse"] < 0.5 * float(np.var(arrays.label[split.test]))


def test_same_config_and_seed_give_the_same_numbers(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    first, second = train(config, arrays, split), train(config, arrays, split)
    assert first.metrics == second.metrics
    assert first.history == second.history
    assert_same_weights(first.model, second.model)
    other = train(config.model_copy(update={"seed": 22}), arrays, split)
    assert other.metrics != first.metrics


@pytest.mark.parametrize("die_at", [1, 5, 7, 11])
def test_resumed_equals_uninterrupted(
    die_at: int, config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path
) -> None:
    whole_reports = Recorder()
    whole = train(config, arrays, split, reporter=whole_reports)
    placement = Placement(checkpoint_every_steps=3)
    with pytest.raises(Killed):
        train(config, arrays, split, folder=tmp_path, reporter=Recorder(die_at), placement=placement)
    # What other code of the process drew in between must not matter.
    torch.rand(7)
    resumed = train(config, arrays, split, folder=tmp_path, placement=placement)
    assert resumed.metrics == whole.metrics
    assert resumed.history == whole.history
    assert_same_weights(resumed.model, whole.model)
    np.testing.assert_array_equal(resumed.test_prediction, whole.test_prediction)


def test_a_resumed_run_does_not_train_again(
    config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(config, arrays, split, folder=tmp_path, reporter=Recorder(11))
    recorder = Recorder()
    train(config, arrays, split, folder=tmp_path, reporter=recorder)
    # 40 training genes, 8 a step, half an epoch: a checkpoint at each validation, every 2 steps; the last at 10.
    assert {step for step, _ in recorder.reports} == {11, 12}


def test_best_validation_is_kept_and_tested_once(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    result = train(config, arrays, split)
    validations = [entry for entry in result.history if "val/mse" in entry]
    best = min(validations, key=lambda entry: entry["val/mse"])
    assert result.metrics["val/mse"] == best["val/mse"]
    assert result.metrics["best_step"] == best["step"]
    assert not any(name.startswith("test/") for entry in result.history for name in entry)
    prediction = predict_rows(result.model, arrays, split.test, Placement(), "plain")
    np.testing.assert_array_equal(prediction, result.test_prediction)
    expected = regression_metrics(prediction, arrays.label[split.test])
    assert {f"test/{name}": value for name, value in expected.items()}.items() <= result.metrics.items()


def test_validation_every_half_epoch_and_at_the_end(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    result = train(changed(config, "training", n_steps=7), arrays, split)
    assert [entry["step"] for entry in result.history if "val/mse" in entry] == [2, 4, 6, 7]


def test_reports_are_the_history(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    recorder = Recorder()
    result = train(config, arrays, split, reporter=recorder)
    assert [{"step": float(step), **metrics} for step, metrics in recorder.reports] == result.history


def test_predict_with_adjusted_validates_the_adjusted_path(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    result = train(changed(config, "model", predict_with="adjusted"), arrays, split)
    adjusted = predict_rows(result.model, arrays, split.test, Placement(), "adjusted")
    plain = predict_rows(result.model, arrays, split.test, Placement(), "plain")
    np.testing.assert_array_equal(adjusted, result.test_prediction)
    assert not np.array_equal(adjusted, plain)


@pytest.mark.parametrize("n_states", [0, 1, 2, 8])
def test_every_number_of_states_trains(n_states: int, config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    result = train(changed(changed(config, "training", n_steps=3), "model", n_states=n_states), arrays, split)
    assert np.isfinite(result.metrics["test/mse"])


def test_without_dna_and_without_scalars(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    bare = dataclasses.replace(arrays, sequence=None, scalars=arrays.scalars[:, :0], scalar_names=())
    result = train(changed(config, "training", n_steps=3), bare, split)
    assert result.model.inputs.n_scalars == 0
    assert not result.model.inputs.sequence


def test_mixed_precision_is_near_float32(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    full = train(config, arrays, split)
    mixed = train(changed(config, "training", precision="bf16"), arrays, split)
    assert mixed.metrics != full.metrics
    assert mixed.metrics["val/mse"] == pytest.approx(full.metrics["val/mse"], rel=0.05)


def test_a_label_that_is_not_a_number_stops_the_run(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    broken = dataclasses.replace(arrays, label=np.full_like(arrays.label, np.nan))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 1 .*lower optimizer\.learning_rate"):
        train(config, broken, split)


def test_too_few_genes_and_uneven_shares_are_refused_together(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    small = Split(split.train[:5], split.validation[:1], split.test)
    with pytest.raises(ConfigError) as refused:
        train(config, arrays, small, placement=Placement(n_workers=3))
    message = str(refused.value)
    assert "training.batch_size: 8, but fold fold_11 trains on 5 genes" in message
    assert "has 1 validation genes" in message
    assert "do not divide among 3 workers" in message


def test_checkpoint_of_another_run_is_refused(
    config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path
) -> None:
    train(changed(config, "training", n_steps=2), arrays, split, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: belongs to a run with other settings"):
        train(config, arrays, split, folder=tmp_path)


def test_damaged_checkpoint_is_refused(config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path) -> None:
    train(config, arrays, split, folder=tmp_path)
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: cannot be read"):
        train(config, arrays, split, folder=tmp_path)


def test_a_checkpoint_for_which_there_is_no_room_leaves_the_one_before_alone(
    config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, arrays, split, folder=tmp_path)
    state, names = load_state(tmp_path, config.fingerprint()), sorted(path.name for path in tmp_path.iterdir())
    assert state is not None

    def full(_: object, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path, state)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert load_state(tmp_path, config.fingerprint()) is not None


def test_a_run_that_its_reporter_stops_goes_on_later_as_if_it_had_not(
    config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path
) -> None:
    whole = Recorder()
    alone = train(config, arrays, split, reporter=whole)
    validations = [step for step, metrics in whole.reports if "val/mse" in metrics]
    stopped = Recorder(stop_at=validations[0])
    with pytest.raises(RunStoppedError, match=f"stopped after step {validations[0]} of"):
        train(config, arrays, split, folder=tmp_path, reporter=stopped)
    assert max(step for step, _ in stopped.reports) == validations[0]
    gone_on = train(config, arrays, split, folder=tmp_path)
    assert gone_on.metrics == alone.metrics
    assert_same_weights(gone_on.model, alone.model)
