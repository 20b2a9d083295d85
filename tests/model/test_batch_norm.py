"""Batch normalisation over data-parallel workers equals that of one worker with all genes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from prism_ray.config import ModelConfig
from prism_ray.model import InputShape, Prism, prism_loss
from prism_ray.model.batch_norm import SyncBatchNorm1d
from tests.processes import run_workers

GENES, WORKERS = 8, 2


def make_batch():
    generator = torch.Generator().manual_seed(4)
    bases = torch.randint(0, 4, (GENES, 64), generator=generator)
    sequence = torch.nn.functional.one_hot(bases, 4).float()
    signals = 100.0 + 5.0 * torch.rand(GENES, 64, 2, generator=generator)  # a mean far above the spread
    return sequence, signals, torch.linspace(-1, 1, GENES)


def step(part: slice) -> Prism:
    """Model after one backward pass over some of the genes."""
    model = Prism(ModelConfig(d_model=8, n_layers=1, d_state=4, n_states=2), InputShape(2, 0), seed=1).train()
    sequence, signals, target = make_batch()
    losses = prism_loss(model(sequence[part], signals[part]), target[part], 1.0, 1.0)
    torch.autograd.backward(losses.total)
    return model


def worker(rank: int, meeting_point: str, out: str) -> None:
    """Half of the genes on one of two workers; gradients are averaged as data-parallel training does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=WORKERS)
    share = GENES // WORKERS
    model = step(slice(rank * share, (rank + 1) * share))
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= WORKERS
    uneven = nn.Sequential(SyncBatchNorm1d(3)).train()
    rows = torch.arange(5 * 3 * 4, dtype=torch.float32).reshape(5, 3, 4)
    uneven(rows[:1] if rank == 0 else rows[1:])
    if rank == 0:
        torch.save(
            {
                "gradients": {name: parameter.grad for name, parameter in model.named_parameters()},
                "buffers": dict(model.named_buffers()),
                "uneven": dict(uneven.named_buffers()),
            },
            out,
        )
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    out = folder / "result.pt"
    run_workers(worker, WORKERS, str(folder / "meeting"), str(out))
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def one_worker():
    return step(slice(None))


def test_gradients_of_two_workers_equal_those_of_one(two_workers, one_worker):
    for name, parameter in one_worker.named_parameters():
        difference = (two_workers["gradients"][name] - parameter.grad).norm()
        # A convolution's bias has no gradient before batch normalisation: its rounding is no error.
        assert difference <= 1e-5 * parameter.grad.norm() + 1e-7, name


def test_running_statistics_of_two_workers_equal_those_of_one(two_workers, one_worker):
    for name, buffer in one_worker.named_buffers():
        torch.testing.assert_close(two_workers["buffers"][name], buffer, rtol=1e-5, atol=1e-6)


def test_uneven_shares_count_by_their_genes(two_workers):
    expected = SyncBatchNorm1d(3).train()
    expected(torch.arange(5 * 3 * 4, dtype=torch.float32).reshape(5, 3, 4))
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(two_workers["uneven"][f"0.{name}"], buffer, rtol=1e-5, atol=1e-6)


def test_alone_it_is_the_usual_layer():
    ours, usual = SyncBatchNorm1d(3), nn.BatchNorm1d(3)
    usual.load_state_dict(ours.state_dict())
    values = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(values), usual(values))
    assert torch.equal(ours.eval()(values), usual.eval()(values))
