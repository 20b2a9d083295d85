"""What the machine does while a trial trains: processors, memory, disk, network and GPUs, in MLflow's own names."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from prism_ray.tracking.headers import SYSTEM_PREFIX, TrialLog

SAMPLE_S = 10.0
_log = logging.getLogger(__name__)


@contextmanager
def system_metrics(log: TrialLog, sample_s: float = SAMPLE_S) -> Iterator[None]:
    """Inside, `log` is given the use of this machine every `sample_s` seconds, and once at the end.

    MLflow's own thread would send to the server itself and lose what is measured while that is away.

    Args:
        log: may be used from several threads at once.
    """
    sampler = _Sampler(log)
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(sample_s):
            sampler.sample()

    thread = threading.Thread(target=work, name="prism-ray-system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sampler.sample()


class _Sampler:
    """Reads the monitors and logs what they say; the step counts samples, as MLflow's does."""

    def __init__(self, log: TrialLog) -> None:
        self._log = log
        self._monitors = _monitors()
        self._n_samples = 0
        for monitor in self._monitors:
            # Use of the processors is counted from the call before, so the first one says nothing.
            monitor.collect_metrics()
            monitor.clear_metrics()

    def sample(self) -> None:
        """Log one sample; whatever goes wrong is logged and stops nothing."""
        found: dict[str, float] = {}
        try:
            for monitor in self._monitors:
                monitor.collect_metrics()
                found |= {f"{SYSTEM_PREFIX}{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
                monitor.clear_metrics()
        except Exception as problem:  # noqa: BLE001  (drivers raise what they like, and training must go on)
            _log.warning("system metrics cannot be read (%s)", problem)
        if found:
            self._log.log(found, self._n_samples)
            self._n_samples += 1


def _monitors() -> list[BaseMetricsMonitor]:
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except (ImportError, RuntimeError):
        _log.debug("no NVIDIA GPU, or no nvidia-ml-py: its use is not logged")
    return monitors
