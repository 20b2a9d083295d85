"""Use of the machine while a trial trains: sampled, named as MLflow names it, and never in a trial's way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

from prism_ray.tracking import MlflowTracker, fetch_trials, system_metrics
from prism_ray.tracking.client import connect
from prism_ray.tracking.headers import NullTrialLog
from tests.tracking_support import STUDY, fresh_store, trial_header


class Kept(NullTrialLog):
    def __init__(self) -> None:
        self.logged: list[tuple[Mapping[str, float], int]] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.logged.append((metrics, step))


def test_a_short_trial_has_one_sample() -> None:
    log = Kept()
    with system_metrics(log):
        assert log.logged == []
    ((metrics, step),) = log.logged
    assert step == 0
    assert set(metrics) >= {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/disk_usage_percentage",
        "system/network_receive_megabytes",
    }
    assert 0 < metrics["system/system_memory_usage_percentage"] <= 100


def test_a_long_trial_is_sampled_while_it_trains() -> None:
    log = Kept()
    with system_metrics(log, 0.01):
        end = time.monotonic() + 30
        while len(log.logged) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        n_sampled = len(log.logged)
    assert n_sampled >= 3
    assert [step for _, step in log.logged] == list(range(n_sampled + 1))


def test_what_cannot_be_read_stops_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log = Kept()
    with system_metrics(log):
        monkeypatch.setattr(CPUMonitor, "collect_metrics", lambda monitor: 1 / 0)
    assert "system metrics cannot be read" in caplog.text
    assert log.logged == []


def test_the_use_of_each_gpu_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver of two GPUs that gives known numbers; what it cannot say is left out."""

    def power(handle: int) -> int:
        if handle:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 300_000

    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=(handle + 1) * 20e9, total=80e9),
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=90 + handle),
        "nvmlDeviceGetPowerUsage": power,
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 600_000,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    log = Kept()
    with system_metrics(log):
        pass
    ((metrics, _),) = log.logged
    assert {name: value for name, value in metrics.items() if name.startswith("system/gpu_")} == {
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_memory_usage_megabytes": 20_000.0,
        "system/gpu_0_utilization_percentage": 90.0,
        "system/gpu_0_power_usage_watts": 300.0,
        "system/gpu_0_power_usage_percentage": 50.0,
        "system/gpu_1_memory_usage_percentage": 50.0,
        "system/gpu_1_memory_usage_megabytes": 40_000.0,
        "system/gpu_1_utilization_percentage": 91.0,
    }
    assert "system/cpu_utilization_percentage" in metrics


def test_they_are_kept_with_the_run_and_out_of_the_table(tmp_path: Path) -> None:
    tracker = MlflowTracker(fresh_store(tmp_path))
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header())
    with system_metrics(log):
        log.log({"test/mse": 0.25}, 1)
    log.finish("FINISHED")
    assert "system/cpu_utilization_percentage" in connect(tracker.uri).get_run(log.run_id).data.metrics
    assert [name for name in fetch_trials(tracker.uri, STUDY.name) if name.startswith("system/")] == []
