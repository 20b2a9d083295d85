"""`prism-ray train`: one run by Ray Train gives the numbers of the plain loop.

What it says of a run that fails is in tests/distributed/test_loading.py, what two workers give in test_backends.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import prism_ray.store
from prism_ray.cli import main
from prism_ray.config import RunConfig
from prism_ray.documents import read_document, validate_document
from prism_ray.errors import ConfigError
from prism_ray.training.loop import TrainResult, train
from prism_ray.training.record import TrialRecord, read_record

pytestmark = pytest.mark.ray

CONFIG = """\
data: {cell_type: K562, fold: fold_1, window_bp: 256, signals: [h3k27ac, dnase]}
model: {d_model: 8, n_layers: 1, d_state: 4, n_states: 2, confounder_channels: 2}
optimizer: {learning_rate: 5.0e-3}
training: {n_steps: 6, batch_size: 8, precision: float32}
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The number of threads of a worker with one CPU: it decides the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(one_thread: None, simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """The run in this process, without Ray."""
    path = tmp_path_factory.mktemp("alone") / "tiny.yaml"
    path.write_text(CONFIG)
    config = validate_document(read_document(path, ConfigError), RunConfig, ConfigError)
    arrays = prism_ray.store.open(simulated_store).load(256, ["h3k27ac", "dnase"], "K562")
    split = prism_ray.store.open(simulated_store).folds.split("fold_1", arrays.chrom)
    return train(config, arrays, split)


def command(config: Path, store: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(config), "--store", str(store), "--out", str(out), *more]


def record_of(folder: Path) -> TrialRecord:
    record = read_record(folder)
    assert record is not None
    return record


def test_one_worker_gives_exactly_the_numbers_of_the_loop(
    alone: TrainResult, config_file: Path, simulated_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(command(config_file, simulated_store, out)) == 0
    said = capsys.readouterr().out
    record = record_of(out)
    assert record.metrics == alone.metrics
    assert record.history() == alone.history
    assert f"test/mse         {alone.metrics['test/mse']:.6g}\n" in said
    assert f"parameters       {alone.n_parameters:,}\n" in said
    assert said.endswith(f"model            {out / 'model'}\n")
    assert {path.name for path in out.iterdir()} == {
        "attempts.json",
        "run_id",
        "result.json",
        "history.json",
        "model",
        "example_input.npz",
        "state_weights.parquet",
        "test_predictions.parquet",
    }

    # Once more: only read, to the last byte of the output.
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(command(config_file, simulated_store, out)) == 0
    assert capsys.readouterr().out == said
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times

    # Other settings are another run: its folder is not this one, and its numbers are not these.
    config_file.write_text(CONFIG.replace("n_steps: 6", "n_steps: 7"))
    assert main(command(config_file, simulated_store, out)) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert f"{out}: holds the run {record.trial_id}, and these settings on these data are the run " in refused.err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--workers", "8"), "a run needs 8 CPUs (8 workers x 1), there are 2"),
        (("--gpus-per-worker", "0.5"), "a run needs 0.5 GPUs (1 workers x 0.5), there are 0"),
    ],
)
def test_more_than_the_cluster_has_is_refused_and_leaves_nothing(
    flags: tuple[str, str],
    message: str,
    config_file: Path,
    simulated_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(config_file, simulated_store, tmp_path / "run", *flags)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
