"""The record of a finished run: round trip, interrupted writing, and files that are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from prism_ray.config import RunConfig
from prism_ray.errors import CheckpointError, InputError
from prism_ray.model import Prism, load
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training import recording as record_module
from prism_ray.training.batches import make_batch
from prism_ray.training.checkpoint import CHECKPOINT_NAME
from prism_ray.training.evaluate import state_rows
from prism_ray.training.inference import predict_inputs
from prism_ray.training.loop import TrainResult, train
from prism_ray.training.record import RESULT_NAME, TrialRecord, read_record
from prism_ray.training.recording import Identity, write_record
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import as_source

Write = Callable[..., TrialRecord]


@pytest.fixture(scope="module")
def result(config: RunConfig, arrays: GeneArrays, split: Split) -> TrainResult:
    return train(config, arrays, split)


@pytest.fixture
def write(config: RunConfig, arrays: GeneArrays, result: TrainResult) -> Write:
    """Writes the record of one finished run, or of a result given, to a folder."""

    def write_to(folder: Path, given: TrainResult = result) -> TrialRecord:
        return write_record(
            folder,
            given,
            arrays,
            Identity(config, "0123456789abcdef", "d" * 64, 1),
            n_workers=2,
            device=torch.device("cpu"),
            read_bytes=4096,
        )

    return write_to


def test_what_is_written_is_read(
    write: Write, config: RunConfig, arrays: GeneArrays, split: Split, result: TrainResult, tmp_path: Path
) -> None:
    folder = tmp_path / "trials" / "t"
    written = write(folder)
    record = read_record(folder)
    assert record == written
    assert record.config == config
    assert record.fingerprint == config.fingerprint()
    assert (record.trial_id, record.data_digest, record.results_version) == ("0123456789abcdef", "d" * 64, 1)
    assert record.metrics == result.metrics
    assert record.history() == result.history
    assert record.n_parameters == result.n_parameters
    assert (record.cost["n_workers"], record.cost["device"]) == (2, "cpu")
    assert (record.cost["micro_batch"], record.cost["checkpoint_activations"]) == (8, False)
    assert record.more_costs() == {
        "cost/read_bytes": 4096.0,
        "cost/micro_batch": 8.0,
        "cost/checkpoint_activations": 0.0,
    }
    tags = record.provenance()
    assert (tags["prism.device"], tags["prism.n_workers"], tags["prism.n_hosts"]) == ("cpu", "2", "1")
    assert tags["prism.version.torch"] == torch.__version__
    predictions = pd.read_parquet(folder / "test_predictions.parquet")
    assert predictions["gene_id"].tolist() == arrays.gene_id[split.test].tolist()
    assert predictions["chrom"].tolist() == arrays.chrom[split.test].tolist()
    np.testing.assert_array_equal(predictions["prediction"], result.test_prediction)
    np.testing.assert_array_equal(predictions["label"], arrays.label[split.test])
    states = pd.read_parquet(folder / "state_weights.parquet")
    assert states["gene_id"].tolist() == predictions["gene_id"].tolist()
    model = load(folder / "model")
    batch = make_batch(arrays.take(split.test), torch.device("cpu"))
    expected = model.eval()(batch.sequence, batch.signals, batch.scalars).state_weights
    assert expected is not None
    for number in range(config.model.n_states):
        kept = np.stack(states[f"state_{number + 1}"].to_list())
        assert kept.dtype == np.float32
        np.testing.assert_allclose(kept, expected[:, :, number].detach().numpy(), atol=1e-6)
    with np.load(folder / "example_input.npz") as example:
        inputs = {name: example[name] for name in example.files}
    assert inputs.pop("gene_id").tolist() == predictions["gene_id"].tolist()[:4]
    np.testing.assert_allclose(predict_inputs(model, inputs)["prediction"], predictions["prediction"][:4], rtol=1e-5)
    for name, value in result.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert model.trained_on is not None
    assert model.trained_on.run_config == config
    assert {path.name for path in folder.iterdir()} == {
        "result.json",
        "history.json",
        "model",
        "example_input.npz",
        "state_weights.parquet",
        "test_predictions.parquet",
    }


def test_final_metrics_and_files_for_a_tracker(write: Write, tmp_path: Path) -> None:
    record = write(tmp_path / "t")
    final = record.final_metrics()
    assert final["best/mse"] == record.metrics["val/mse"]
    assert final["best/step"] == record.metrics["best_step"]
    assert final["test/mse"] == record.metrics["test/mse"]
    assert not any(name.startswith("val/") for name in final)
    files = record.files()
    own = {"model/config.json", "model/model.safetensors", "test_predictions.parquet", "result.json"}
    later = {"state_weights.parquet", "example_input.npz"}
    assert set(files) == own | later
    assert all(path.is_file() for path in files.values())
    # A record of before these were kept is as good as it was.
    for name in later:
        files[name].unlink()
    assert set(record.files()) == own


@pytest.mark.parametrize("model", [{"n_states": 0}, {"states": "random"}, {"states": "dropout"}])
def test_only_learned_states_have_weights_to_keep(
    model: dict[str, Any], config: RunConfig, arrays: GeneArrays, split: Split, tmp_path: Path
) -> None:
    changed = config.model_copy(update={"model": config.model.model_copy(update=model)})
    short = changed.model_copy(update={"training": config.training.model_copy(update={"n_steps": 1})})
    result = train(short, arrays, split)
    assert result.test_states is None
    identity = Identity(short, "0123456789abcdef", "d" * 64, 1)
    cpu = torch.device("cpu")
    record = write_record(tmp_path / "t", result, arrays, identity, n_workers=1, device=cpu, read_bytes=4096)
    assert "state_weights.parquet" not in record.files()


def test_a_record_of_a_gpu_names_it_and_its_peak_of_memory(
    config: RunConfig, arrays: GeneArrays, result: TrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is not here, of which PyTorch gives known numbers."""
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", {device: "NVIDIA H100"}.__getitem__)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {device: 3 << 30}.__getitem__)
    identity = Identity(config, "0123456789abcdef", "d" * 64, 1)
    record = write_record(tmp_path / "t", result, arrays, identity, n_workers=1, device=device, read_bytes=4096)
    assert record.provenance()["prism.device"] == "NVIDIA H100"
    assert record.more_costs()["cost/gpu_memory_bytes"] == 3 << 30


@pytest.mark.parametrize(("window_bp", "n_genes"), [(2, 4), (2000, 4), (2002, 3), (200_000, 1)])
def test_an_example_of_long_windows_has_fewer_genes(window_bp: int, n_genes: int, tmp_path: Path) -> None:
    names = np.array([f"g{number}" for number in range(6)])
    genes = GeneArrays(
        gene_id=names,
        chrom=names,
        sequence=None,
        signals=np.ones((6, window_bp, 1), np.float32),
        scalars=np.zeros((6, 0), np.float32),
        label=np.zeros(6, np.float32),
        signal_names=("dnase",),
        scalar_names=(),
        window_bp=window_bp,
    )
    record_module._write_example(tmp_path, as_source(genes), np.array([5, 3, 2, 1, 0]))
    with np.load(tmp_path / "example_input.npz") as kept:
        assert {name: kept[name].shape for name in kept.files} == {
            "gene_id": (n_genes,),
            "signals": (n_genes, window_bp, 1),
        }
        assert kept["gene_id"].tolist() == ["g5", "g3", "g2", "g1"][:n_genes]


def test_states_are_asked_of_a_model_that_has_them(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    inputs = as_source(arrays).genes.inputs
    none = Prism(config.model.model_copy(update={"n_states": 0}), inputs)
    with pytest.raises(InputError, match="states: were asked of a model with n_states 0"):
        state_rows(none, arrays, split.test, Placement())
    with pytest.raises(InputError, match="signals: are missing"):
        Prism(config.model, inputs).states(None)


def test_a_metric_that_is_not_a_number_survives(write: Write, result: TrainResult, tmp_path: Path) -> None:
    import dataclasses

    constant = dataclasses.replace(result, metrics={**result.metrics, "test/pearson_r": float("nan")})
    record = write(tmp_path / "t", constant)
    assert math.isnan(record.metrics["test/pearson_r"])


def test_nothing_there_is_no_record(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "nowhere") is None


class Killed(BaseException):
    """Ends the writing from inside, as a kill would."""


@pytest.mark.parametrize("n_files", [0, 1])
def test_killed_between_files_is_unfinished_and_written_anew(
    n_files: int, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / CHECKPOINT_NAME).write_bytes(b"state")
    (folder / f".{CHECKPOINT_NAME}.4711").write_bytes(b"of a process that was killed in it")
    real = record_module._write_json
    written: list[Path] = []

    def dying(path: Path, content: Any) -> None:
        if len(written) == n_files:
            raise Killed
        written.append(path)
        real(path, content)

    monkeypatch.setattr(record_module, "_write_json", dying)
    with pytest.raises(Killed):
        write(folder)
    assert read_record(folder) is None
    # The run can go on from its checkpoint: that is removed last of all.
    assert (folder / CHECKPOINT_NAME).exists()
    monkeypatch.undo()
    record = write(folder)
    assert read_record(folder) == record
    assert [path.name for path in folder.iterdir() if CHECKPOINT_NAME in path.name] == []


def test_the_model_of_an_earlier_attempt_is_replaced(
    write: Write, config: RunConfig, arrays: GeneArrays, split: Split, result: TrainResult, tmp_path: Path
) -> None:
    earlier = train(config.model_copy(update={"seed": 22}), arrays, split)
    folder = tmp_path / "t"
    write(folder, earlier)
    (folder / RESULT_NAME).unlink()
    write(folder)
    for name, value in result.model.state_dict().items():
        assert torch.equal(load(folder / "model").state_dict()[name], value), name


def cut(text: str) -> str:
    return text[: len(text) // 2]


def edited(**changes: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        content = {**json.loads(text), **changes}
        return json.dumps({name: value for name, value in content.items() if value is not None})

    return change


def unknown_setting(text: str) -> str:
    content = json.loads(text)
    content["config"]["model"]["n_state"] = content["config"]["model"].pop("n_states")
    return json.dumps(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be read ("),
        (lambda text: "", "cannot be read ("),
        (lambda text: "[]", "was written by another version of prism-ray"),
        (edited(schema=2), "was written by another version of prism-ray"),
        (edited(metrics=None), "does not hold just config, cost, data_digest, "),
        (edited(extra=1), "does not hold just config, cost, data_digest, "),
        (edited(config=5), "config: 5: input should be"),
        (unknown_setting, "config.model.n_state: is not a known field; use one of "),
    ],
)
def test_a_damaged_result_is_refused(damage: Callable[[str], str], message: str, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "t")
    path = tmp_path / "t" / RESULT_NAME
    path.write_text(damage(path.read_text()))
    with pytest.raises(CheckpointError) as caught:
        read_record(tmp_path / "t")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert text.endswith("move this folder away to train the run again")
