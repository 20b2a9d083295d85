"""A GPU that was asked for is there, or its absence is said: no run is quietly given a CPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch

from prism_ray.config import RunConfig
from prism_ray.distributed import gpus, tune
from prism_ray.distributed.failures import Failure, read_failure
from prism_ray.distributed.gpus import check_local_gpus, no_cuda, node_faults, trial_device
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.trial import TrialTask
from prism_ray.errors import ConfigError, InputError


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_why_there_is_no_cuda(without_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert no_cuda() == "PyTorch was built without CUDA"
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert no_cuda() == "PyTorch finds no NVIDIA GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert no_cuda() is None


def test_only_this_machines_gpus_are_looked_for_here(without_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "starts_local_cluster", lambda address: address is None)
    with pytest.raises(ConfigError, match=r"--gpus-per-worker: 0\.5 is asked for, and there is no CUDA here: PyTorch "):
        check_local_gpus(0.5, None)
    check_local_gpus(0.5, "head:6379")
    check_local_gpus(0.0, None)


def test_device_of_a_trial(without_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial_device(0.0) == torch.device("cpu")
    with pytest.raises(ConfigError, match="--gpus-per-worker: 1 is asked for, and there is no CUDA on this node"):
        trial_device(1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert trial_device(0.25) == torch.device("cuda")


def test_a_trial_on_a_node_without_cuda_leaves_its_reason(
    without_cuda: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig.model_validate({"data": {"fold": "fold_1"}})
    resources = TrialResources(gpus_per_worker=1.0)
    task = TrialTask("s", "a", "0" * 16, config, tmp_path / "store", "d", tmp_path / "trial", resources=resources)
    told: list[dict[str, object]] = []
    monkeypatch.setattr(tune.tune, "report", told.append)
    tune._trial({}, SimpleNamespace(task=lambda proposal: task), "val/mse")
    noted = read_failure(task.folder)
    assert isinstance(noted, Failure)
    assert [entry["failure"] for entry in told] == [str(noted)]
    assert "there is no CUDA on this node" in noted.reason
    assert not noted.repeats, "another node may have one"


def test_nodes_that_left_or_have_no_gpu_have_no_fault(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_faults() == []
    gone = {"NodeID": "1" * 56, "Alive": True, "NodeManagerAddress": "10.0.0.1", "Resources": {"GPU": 1.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [gone])
    assert node_faults() == []


def test_parts_of_gpus_above_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"gpus_per_worker: 1\.5 cannot be; above 1 use whole numbers"):
        TrialResources(gpus_per_worker=1.5)
    assert TrialResources(gpus_per_worker=0.5).gpus_per_worker == 0.5
    assert TrialResources(gpus_per_worker=2.0).gpus_per_worker == 2.0
