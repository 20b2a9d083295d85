"""Trials that share a GPU by the memory that a real step was measured to take."""

import pytest
import torch
import torch.multiprocessing as mp

from prism_ray.config import RunConfig, patched
from prism_ray.distributed.packing import CONTEXT_BYTES, needed_bytes, packed, trials_a_gpu, whole_gpus
from prism_ray.distributed.probe import measure_here, probe
from prism_ray.distributed.resources import TrialResources
from tests.store.factory import Recipe, make_store

SETTINGS = {
    "data.window_bp": 2000,
    "model.d_model": 64,
    "model.n_states": 2,
    "training.batch_size": 4,
}


def here(config, store, each):
    return measure_here(config, store, each, torch.device("cuda"))


def in_its_share(rank, config, store, share, folder):
    """Another gene order in a process of its own, which may take no more of the GPU than its trial was given."""
    torch.cuda.set_per_process_memory_fraction(share)
    other = config.model_copy(update={"seed": 20 + rank})
    (folder / f"{rank}").write_text(str(here(other, store, TrialResources(gpus_per_worker=1.0)).peak_bytes))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run, its store and what its step took of the whole GPU."""
    folder = tmp_path_factory.mktemp("packing")
    make_store(folder / "store", Recipe(window_bp=2000, n_genes=8))
    config = patched(RunConfig(), SETTINGS, "")
    return config, folder / "store", probe(config, folder / "store", whole_gpus(TrialResources()), here)


def test_a_step_says_what_it_took_of_which_gpu(measured):
    _, _, cost = measured
    assert cost.device == torch.cuda.get_device_name()
    assert cost.device_bytes == torch.cuda.get_device_properties(0).total_memory
    assert 0 < cost.peak_bytes < cost.device_bytes
    assert cost.cpus == 0


def test_trials_side_by_side_stay_within_what_each_was_given(measured, tmp_path):
    config, store, cost = measured
    k = trials_a_gpu(packed(whole_gpus(TrialResources()), [cost]).each)
    assert 1 <= k <= 8
    assert k * needed_bytes(cost.peak_bytes) <= cost.device_bytes
    tensors = needed_bytes(cost.peak_bytes) - CONTEXT_BYTES
    share = tensors / cost.device_bytes
    mp.start_processes(in_its_share, args=(config, store, share, tmp_path), nprocs=min(k, 2), start_method="spawn")
    peaks = [int(file.read_text()) for file in tmp_path.iterdir()]
    assert len(peaks) == min(k, 2)
    # One that had run out would have halved its micro-batch and taken much less.
    assert all(0.8 * cost.peak_bytes <= peak <= tensors for peak in peaks)
