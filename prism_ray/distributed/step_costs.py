"""What a training step was measured to cost, kept in a workspace, and what it says of a run that was not measured.

`<storage>/probes.json` holds one entry a kind of step: settings that decide its cost, device and seconds. Loads neither
Ray nor PyTorch, for plans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from prism_ray.config import RunConfig
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.workspace import write_whole
from prism_ray.errors import Fault, InputError
from prism_ray.training.record import TrialRecord
from prism_ray.workload import step_multiply_adds

PROBES_NAME = "probes.json"
CPU = "cpu"
_SCHEMA = 1
_FREE = ("predict_with",)
"""Settings of a model that change no cost of a step."""


@dataclass(frozen=True)
class StepKind:
    """Settings that decide what a step costs a worker: equal for runs whose steps cost the same.

    Attributes:
        settings: of model, window, inputs, batch and precision, as JSON.
        n_workers, micro_batch, checkpoint_activations: how the batch is shared and cut.
    """

    settings: str
    n_workers: int
    micro_batch: int
    checkpoint_activations: bool

    @classmethod
    def of(cls, config: RunConfig, each: TrialResources) -> StepKind:
        """The kind of a run's steps."""
        written = config.canonical()
        model = {name: value for name, value in written["model"].items() if name not in _FREE}
        data = config.data
        scalars = data.scalars if data.scalars == "all" else len(data.scalars)
        inputs = [data.window_bp, data.sequence, len(data.signals), scalars]
        training = [config.training.batch_size, config.training.precision]
        settings = json.dumps([model, inputs, training], sort_keys=True, separators=(",", ":"))
        return cls(settings, each.n_workers, each.micro_batch, each.checkpoint_activations)


@dataclass(frozen=True)
class StepCost:
    """What a step was measured to cost one worker.

    Attributes:
        kind: what was measured.
        device: `cpu`, or name of the GPU.
        cpus: of the worker; 0 for a GPU, whose time they do not decide.
        multiply_adds: of the backbone in the step.
        step_s: seconds a step, the first one of a process left out.
        evaluate_s: seconds a gene in validation and test.
        peak_bytes: most memory that the process (CPU) or its tensors (GPU) took.
        device_bytes: memory of the device.
        measured: UTC time in ISO format.
    """

    kind: StepKind
    device: str
    cpus: int
    multiply_adds: int
    step_s: float
    evaluate_s: float
    peak_bytes: int
    device_bytes: int
    measured: str


@dataclass(frozen=True)
class Estimate:
    """Seconds of a step, and where they come from.

    Attributes:
        step_s: seconds a step.
        evaluate_s: seconds a gene in validation and test; None where only training steps were measured.
        source: `probe`, `records` (of finished trials) or `between` (two measured ones, by multiply-adds).
        device: it was measured on.
        peak_bytes: of the measured step; None where it was not measured.
    """

    step_s: float
    evaluate_s: float | None
    source: str
    device: str
    peak_bytes: int | None


class StepCosts:
    """All measured steps that a workspace knows of, on the devices that a trial would run on."""

    def __init__(self, probes: Iterable[StepCost], each: TrialResources) -> None:
        on_gpu = each.gpus_per_worker > 0
        fitting = [probe for probe in probes if _fits(probe, each, on_gpu)]
        last = max(fitting, key=lambda probe: probe.measured, default=None)
        # Of several GPUs the one that was measured last: seconds of two devices are not mixed.
        self._probes = {probe.kind: probe for probe in fitting if last is not None and probe.device == last.device}
        self._on_gpu = on_gpu
        self._each = each
        self._records: dict[StepKind, list[tuple[float, str]]] = {}

    def learn(self, records: Iterable[TrialRecord]) -> None:
        """Add what finished trials took."""
        for record in records:
            device = str(record.cost["device"])
            if record.config.is_evaluation or (device != CPU) != self._on_gpu:
                continue
            if record.cost["n_workers"] == self._each.n_workers:
                step_s = float(record.cost["train_s"]) / record.config.training.n_steps
                self._records.setdefault(StepKind.of(record.config, self._each), []).append((step_s, device))

    def knows(self, kind: StepKind) -> bool:
        """Whether steps of that kind were measured themselves."""
        return kind in self._probes or kind in self._records

    def estimate(self, config: RunConfig) -> Estimate | None:
        """Cost of a run's step; None where neither it nor a smaller and a larger one were measured."""
        kind = StepKind.of(config, self._each)
        probe = self._probes.get(kind)
        if probe is not None:
            return Estimate(probe.step_s, probe.evaluate_s, "probe", probe.device, probe.peak_bytes)
        if kind in self._records:
            seconds = sorted(self._records[kind])
            step_s, device = seconds[len(seconds) // 2]
            return Estimate(step_s, None, "records", device, None)
        return self._between(step_multiply_adds(config))

    def _between(self, wanted: int) -> Estimate | None:
        below = [probe for probe in self._probes.values() if probe.multiply_adds <= wanted]
        above = [probe for probe in self._probes.values() if probe.multiply_adds >= wanted]
        if not below or not above:
            return None
        low = max(below, key=lambda probe: probe.multiply_adds)
        high = min(above, key=lambda probe: probe.multiply_adds)
        width = high.multiply_adds - low.multiply_adds
        part = (wanted - low.multiply_adds) / width if width else 0.0
        return Estimate(
            low.step_s + part * (high.step_s - low.step_s),
            low.evaluate_s + part * (high.evaluate_s - low.evaluate_s),
            "between",
            low.device,
            None,
        )


def _fits(probe: StepCost, each: TrialResources, on_gpu: bool) -> bool:
    """Whether a probe's steps ran as those of a trial would."""
    same_device = probe.device != CPU if on_gpu else (probe.device == CPU and probe.cpus == each.cpus_per_worker)
    return same_device and probe.kind.n_workers == each.n_workers


def read_probes(storage: Path) -> list[StepCost]:
    """Measured steps of a workspace; none where nothing was measured yet.

    Raises:
        InputError: the file is damaged or of another version.
    """
    path = storage / PROBES_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError("it is of another version")
        return [_from_json(entry) for entry in content["probes"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as problem:
        fault = Fault(str(path), f"cannot be read ({problem})", "move it away; `prism-ray check` measures again")
        raise InputError(str(fault), [fault]) from None


def keep_probes(storage: Path, measured: Iterable[StepCost]) -> None:
    """Add measured steps to those of a workspace, in place of earlier ones of the same kind and device."""
    probes = {(probe.kind, probe.device, probe.cpus): probe for probe in read_probes(storage)}
    probes |= {(probe.kind, probe.device, probe.cpus): probe for probe in measured}
    content = {"schema": _SCHEMA, "probes": [asdict(probe) for probe in probes.values()]}
    write_whole(storage / PROBES_NAME, json.dumps(content, indent=1), durable=False)


def _from_json(entry: Mapping[str, Any]) -> StepCost:
    names = {field.name for field in fields(StepCost)}
    if entry.keys() != names:
        raise ValueError(f"an entry does not hold just {', '.join(sorted(names))}")
    return StepCost(**{**entry, "kind": StepKind(**entry["kind"])})
