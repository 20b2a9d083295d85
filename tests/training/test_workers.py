"""Several processes as one: gradients, metrics, memory and notices are shared, whatever the number of workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from prism_ray.config import RunConfig
from prism_ray.model import Output, Prism
from prism_ray.model.batch_norm import SyncBatchNorm1d, _SumOverWorkers
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.checkpoint import load_state
from prism_ray.training.collectives import gather_rows, sum_over_workers, take_from_first
from prism_ray.training.evaluate import evaluate_rows, state_rows
from prism_ray.training.gradients import GradientStep
from prism_ray.training.loop import TrainResult, train
from prism_ray.training.order import share_of_rows
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import as_source
from tests.processes import process_of, run_workers

Setting = tuple[RunConfig, GeneArrays, Split]
ROWS = np.array([3, 17, 8, 25, 1, 30, 12, 39])
ODD_COUNTS = (2, 7, 11)
TOLD_AT = 5


def model_of(config: RunConfig, arrays: GeneArrays) -> Prism:
    return Prism(config.model, as_source(arrays).genes.inputs, seed=config.seed)


def gradients(setting: Setting, placement: Placement) -> dict[str, Any]:
    config, arrays, _ = setting
    model = model_of(config, arrays)
    step = GradientStep(model, config, placement)
    n_each = len(ROWS) // placement.n_workers
    losses = step.compute(arrays.take(ROWS[placement.rank * n_each : (placement.rank + 1) * n_each]), 0)
    return {
        "losses": losses,
        "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
        "micro_batch": step.micro_batch,
    }


def evaluations(setting: Setting, placement: Placement) -> list[dict[str, Any]]:
    """Metrics and predictions over odd numbers of genes; some workers have none of them."""
    config, arrays, split = setting
    source, model = as_source(arrays), model_of(config, arrays)
    found = []
    for n_rows in ODD_COUNTS:
        rows = split.test[:n_rows]
        metrics, prediction = evaluate_rows(model, source, rows, placement, "adjusted", "test")
        states = state_rows(model, source, rows, placement)
        tensors = {"prediction": torch.from_numpy(prediction), "states": torch.from_numpy(states)}
        found.append({"metrics": metrics, **tensors})
    return found


def train_here(setting: Setting, placement: Placement, **more: Any) -> TrainResult:
    config, arrays, split = setting
    return train(config, arrays, split, placement=placement, **more)


def fail_above(n_most: int) -> Any:
    """Make this process's models fail as on a full GPU; what undoes it comes back."""
    forward = Prism.forward

    def checked(model: Prism, sequence: Any, signals: Any, *args: Any, **kwargs: Any) -> Output:
        if model.training and len(signals) > n_most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, sequence, signals, *args, **kwargs)

    Prism.forward = checked  # type: ignore[method-assign]
    return forward


class Signalled:
    """Sends this process SIGTERM at a step: rank 0 is not the one that hears of it."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._n_asked = 0

    def __call__(self) -> bool:
        self._n_asked += 1
        if self._rank == 1 and self._n_asked == TOLD_AT:
            signal.raise_signal(signal.SIGTERM)
        return False


def two_workers(rank: int, setting: Setting, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    placement = Placement(rank=rank, n_workers=2)
    out: dict[str, Any] = {"together": gradients(setting, placement), "evaluations": evaluations(setting, placement)}
    result = train_here(setting, placement)
    out["metrics"] = result.metrics
    try:
        train_here(setting, Placement(rank=rank, n_workers=2, checkpoint_asked=Signalled(rank)), folder=Path(folder))
    except RunInterruptedError as problem:
        out["interrupted"] = str(problem)
        # Rank 0 writes the checkpoint that both go on from.
        dist.barrier()
    out["resumed"] = train_here(setting, placement, folder=Path(folder)).metrics
    forward = fail_above(2) if rank == 1 else Prism.forward
    out["short"] = gradients(setting, placement)
    Prism.forward = forward  # type: ignore[method-assign]
    if rank == 0:
        out["lost"] = [error_of(exchange) for exchange in lost_exchanges(setting, placement)]
    torch.save(out, f"{folder}/out-{rank}.pt")
    os._exit(0)  # as a process that is killed: the other one is not told


def lost_exchanges(setting: Setting, placement: Placement) -> list[Callable[[], object]]:
    """Everything that a worker sends the others, in the forward and in the backward pass."""
    config, arrays, _ = setting
    model = model_of(config, arrays)
    normalised = SyncBatchNorm1d(2)
    return [
        lambda: sum_over_workers(torch.ones(1), placement),
        lambda: take_from_first(model, placement),
        lambda: gather_rows(np.ones(2, np.float32), 4, placement),
        lambda: normalised(torch.ones(2, 2, 3)),
        lambda: _SumOverWorkers.backward(None, torch.ones(2)),
    ]


def error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except RuntimeError as problem:
        return type(problem).__name__
    return "none"


def three_workers(rank: int, setting: Setting, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=3)
    torch.save(evaluations(setting, Placement(rank=rank, n_workers=3)), f"{folder}/out-{rank}.pt")
    dist.destroy_process_group()


def start(worker: Any, n_workers: int, setting: Setting, folder: Path) -> list[Any]:
    run_workers(worker, n_workers, setting, str(folder / "meeting"), str(folder))
    return [torch.load(folder / f"out-{rank}.pt", weights_only=False) for rank in range(n_workers)]


@pytest.fixture(scope="module")
def setting(config: RunConfig, arrays: GeneArrays, split: Split) -> Setting:
    return config, arrays, split


@pytest.fixture(scope="module")
def two(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return start(two_workers, 2, setting, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def alone(setting: Setting) -> dict[str, Any]:
    return gradients(setting, Placement())


def assert_near(found: dict[str, Any], expected: dict[str, Any]) -> None:
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-5, atol=1e-7)
    for name, gradient in expected["gradients"].items():
        difference = (found["gradients"][name] - gradient).norm()
        # A convolution's bias has no gradient before batch normalisation: its rounding is no error.
        assert difference <= 1e-5 * gradient.norm() + 1e-7, name
    for name, buffer in expected["buffers"].items():
        torch.testing.assert_close(found["buffers"][name], buffer, rtol=1e-5, atol=1e-6)


def test_two_workers_of_four_genes_are_one_of_eight(two: list[Any], alone: dict[str, Any]) -> None:
    for found in two:
        assert_near(found["together"], alone)
        assert found["together"]["micro_batch"] == 4


def test_memory_short_on_one_worker_halves_all_alike(two: list[Any], alone: dict[str, Any]) -> None:
    for found in two:
        assert_near(found["short"], alone)
        assert found["short"]["micro_batch"] == 2


def test_a_run_of_two_workers_ends_where_that_of_one_does(two: list[Any], setting: Setting) -> None:
    result = train_here(setting, Placement())
    for found in two:
        assert found["metrics"] == pytest.approx(result.metrics, rel=1e-3)
        assert found["metrics"] == two[0]["metrics"]


def test_a_notice_to_one_worker_ends_all_at_the_same_step(two: list[Any]) -> None:
    for found in two:
        assert f"told to end after step {TOLD_AT} of 12" in found["interrupted"]
        assert found["resumed"] == found["metrics"]


def test_metrics_do_not_depend_on_the_number_of_workers(two: list[Any], setting: Setting, tmp_path: Path) -> None:
    expected = evaluations(setting, Placement())
    three = start(three_workers, 3, setting, tmp_path)
    for found in (*(each["evaluations"] for each in two), *three):
        for one, other in zip(found, expected, strict=True):
            for name in ("prediction", "states"):
                torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6)
            assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-4, nan_ok=True)


def test_a_worker_that_is_gone_is_told_from_a_bug(two: list[Any]) -> None:
    assert set(two[0]["lost"]) == {"WorkerLostError"}


@pytest.mark.parametrize("n_workers", range(1, 6))
def test_rows_are_shared_without_loss_and_some_may_get_none(n_workers: int) -> None:
    for n_rows in range(12):
        parts = [list(range(n_rows))[share_of_rows(n_rows, rank, n_workers)] for rank in range(n_workers)]
        assert [row for part in parts for row in part] == list(range(n_rows))
        assert len(parts[0]) == max(map(len, parts))


def until_told(setting: Setting, folder: str) -> None:
    """A run in the main thread of a process that waits at a step for a signal from outside."""

    class Waits:
        def report(self, metrics: Mapping[str, float], step: int) -> None:
            if step == TOLD_AT:
                (Path(folder) / "here").touch()
                _wait_for(Path(folder) / "sent")

        def validated(self, metrics: Mapping[str, float], step: int, history: Any) -> bool:
            return False

    torch.set_num_threads(1)
    try:
        train_here(setting, Placement(), folder=Path(folder) / "run", reporter=Waits())
    except RunInterruptedError as problem:
        (Path(folder) / "said").write_text(str(problem))


def _wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise TimeoutError(path)


def test_sigterm_saves_and_the_run_goes_on_to_the_same_bits(setting: Setting, tmp_path: Path) -> None:
    process = process_of(until_told, setting, str(tmp_path))
    process.start()
    try:
        _wait_for(tmp_path / "here")
        process.terminate()
        (tmp_path / "sent").touch()
        process.join(60)
    finally:
        process.kill()
    assert process.exitcode == 0
    folder = tmp_path / "run"
    said = f"told to end after step {TOLD_AT} of 12; started again, it goes on from {folder}"
    assert (tmp_path / "said").read_text() == said
    state = load_state(folder, setting[0].fingerprint())
    assert state is not None
    assert state.step == TOLD_AT
    whole, resumed = train_here(setting, Placement()), train_here(setting, Placement(), folder=folder)
    assert resumed.metrics == whole.metrics
    assert resumed.history == whole.history
    for (name, value), other in zip(resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
