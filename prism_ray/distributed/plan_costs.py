"""What the trials of a plan cost. Loads neither Ray nor PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from prism_ray.config import DataConfig, EvaluationConfig, ModelConfig, RunConfig, TrainingConfig
from prism_ray.distributed.disk import copies_kept, storage_bytes
from prism_ray.distributed.packing import trials_a_gpu
from prism_ray.distributed.plan_facts import Plan, PlanRow, PlanSettings
from prism_ray.distributed.projections import bytes_to_read, gene_chroms, projection_bytes, projection_key, read_run
from prism_ray.distributed.step_costs import Estimate, StepCosts, read_probes
from prism_ray.distributed.stream_reads import StreamReads
from prism_ray.distributed.workspace_trials import records_like
from prism_ray.machine import usable_cpus
from prism_ray.splits import Split
from prism_ray.store import Store
from prism_ray.study.spec import Study
from prism_ray.training.order import steps_between_validations
from prism_ray.workload import evaluation_multiply_adds, step_multiply_adds


class PlanCosts:
    """What the trials of one plan cost; each projection, fold and kind of step is looked up once."""

    def __init__(self, study: Study, store: Store, settings: PlanSettings, configs: Sequence[RunConfig]) -> None:
        self._study, self._store, self._settings = study, store, settings
        self._steps = StepCosts(read_probes(settings.storage), settings.each)
        self._steps.learn(records_like(settings.storage, configs, store.digest))
        self._streams = StreamReads(store, settings.each.n_workers)
        self._read: dict[str, int] = {}
        self._streamed: dict[tuple[DataConfig, TrainingConfig, EvaluationConfig, bool], int] = {}
        self._splits: dict[tuple[str, str], Split] = {}
        self._estimates: dict[tuple[str, ModelConfig, TrainingConfig], Estimate | None] = {}
        self._used: set[str] = set()

    def trial_s(self, config: RunConfig) -> float | None:
        """Seconds of one run on its workers; None where its step was not measured."""
        estimate = self.estimate(config)
        if estimate is None or (config.is_evaluation and estimate.evaluate_s is None):
            return None
        n_steps, n_genes = self._amount(config)
        # Measured with the window that the model was trained with.
        part = config.evaluated_data().window_bp / config.data.window_bp
        return n_steps * estimate.step_s + n_genes * part * (estimate.evaluate_s or 0.0)

    def trial_multiply_adds(self, config: RunConfig) -> int:
        """Multiply-adds of the backbone in all of one run."""
        n_steps, n_genes = self._amount(config)
        return n_steps * step_multiply_adds(config) + n_genes * evaluation_multiply_adds(config)

    def _amount(self, config: RunConfig) -> tuple[int, int]:
        """Training steps of a run, and genes that it evaluates, in all its validations and its test."""
        split, training = self._split(config), config.training
        if config.is_evaluation:
            return 0, len(split.validation) + len(split.test)
        every = steps_between_validations(config, len(split.train) // training.batch_size)
        return training.n_steps, -(-training.n_steps // every) * len(split.validation) + len(split.test)

    def estimate(self, config: RunConfig) -> Estimate | None:
        """What a run's step was measured to take."""
        key = (projection_key(config.data), config.model, config.training)
        if key not in self._estimates:
            self._estimates[key] = self._steps.estimate(config.trained())
        found = self._estimates[key]
        if found is not None:
            self._used.add(found.device)
        return found

    def row(self, name: str, config: RunConfig, n_trials: int, n_left: int) -> PlanRow:
        """The row of an arm, shown for one of its trials."""
        estimate = self.estimate(config)
        return PlanRow(
            name=name,
            n_trials=n_trials,
            n_left=n_left,
            window_bp=config.data.window_bp,
            signals=config.data.signals,
            sequence=config.data.sequence,
            n_states=config.model.n_states,
            read_bytes=self._read_bytes(read_run(config)),
            step_s=None if estimate is None else estimate.step_s,
            source="" if estimate is None else estimate.source,
            trial_s=self.trial_s(config),
            peak_bytes=None if estimate is None else estimate.peak_bytes,
        )

    def plan(
        self,
        left: Sequence[RunConfig],
        runs: Iterable[tuple[int, RunConfig]],
        *,
        n_trials: int,
        n_finished: int,
        n_linked: int,
        n_evaluations: int,
        n_models_first: int,
        rows: tuple[PlanRow, ...],
        seconds: float | None,
        seconds_least: float | None,
        longest_s: float,
    ) -> Plan:
        """The plan of what is left, whose runs take `seconds` one after another, each alone on its GPU.

        Args:
            left: runs that between them are as large as any of those that are left.
            runs: those that are left, alike ones together with their number.
        """
        study, each = self._study, self._settings.each
        reads = map(read_run, left)
        kinds = {projection_key(config.data): config for config in reads}
        decoded = [projection_bytes(self._store, config) for config in kinds.values()]
        on_gpu = each.gpus_per_worker > 0
        # A step was measured on a GPU of its own: trials that share one take up to so many times as long.
        share = max(1, trials_a_gpu(each))
        units = each.n_workers * (each.gpus_per_worker if on_gpu else each.cpus_per_worker)
        hours = None if seconds is None else seconds * share * units / 3600
        least = None if seconds_least is None else seconds_least * units / 3600
        n_slots, slots_by = self._slots
        caps = {"wall_hours": study.budget.wall_hours, "gpu_hours": study.budget.gpu_hours}
        return Plan(
            study=study.name,
            question=study.question,
            kind=study.kind,
            overrides=study.overrides_text,
            data_digest=self._store.digest,
            n_trials=n_trials,
            n_finished=n_finished,
            n_linked=n_linked,
            n_evaluations=n_evaluations,
            n_models_first=n_models_first,
            rows=rows,
            unmeasured=tuple(row.name for row in rows if row.trial_s is None),
            device=", ".join(sorted(self._used)),
            unit="GPU-hours" if on_gpu else "CPU-hours",
            hours=hours,
            hours_least=least,
            wall_s=None if seconds is None else share * max(seconds / n_slots, longest_s),
            n_slots=n_slots,
            slots_by=slots_by,
            read_bytes=sum(map(self._read_bytes, kinds.values())),
            largest_bytes=max(decoded, default=0),
            all_bytes=sum(decoded),
            peak_bytes=max((row.peak_bytes for row in rows if row.is_to_come and row.peak_bytes), default=None),
            trials_a_gpu=trials_a_gpu(each) if on_gpu else 0,
            packing="" if self._settings.packing is None else self._settings.packing.reason,
            storage_bytes=self._storage_bytes(left, n_trials - n_finished + n_models_first),
            stream_bytes=(
                sum(number * self._stream_bytes(config) for number, config in runs if number)
                if self._settings.loading == "stream"
                else None
            ),
            budget={name: hours for name, hours in caps.items() if hours is not None},
        )

    @cached_property
    def _slots(self) -> tuple[int, str]:
        """Trials at once, and why so many."""
        each = self._settings.each
        if self._settings.max_concurrent is not None:
            return max(1, self._settings.max_concurrent), "as asked"
        if each.gpus_per_worker > 0:
            return max(1, trials_a_gpu(each)), "on one GPU" if trials_a_gpu(each) else "on the GPUs of one trial"
        n_cpus = usable_cpus()
        return max(1, n_cpus // (each.n_workers * each.cpus_per_worker)), f"on the {n_cpus} CPUs of this machine"

    def _storage_bytes(self, left: Sequence[RunConfig], n_left: int) -> int:
        settings = self._settings
        n_copies = copies_kept(settings.tracking_uri, settings.storage)
        return storage_bytes(left, self._store, n_left, self._slots[0], n_copies)

    def _read_bytes(self, config: RunConfig) -> int:
        data, key = config.data, projection_key(config.data)
        if key not in self._read:
            self._read[key] = bytes_to_read(self._store, data)
        return self._read[key]

    def _stream_bytes(self, config: RunConfig) -> int:
        learns_states = config.model.n_states > 0 and config.model.states == "learned"
        key = (config.data, config.training, config.evaluation, learns_states)
        if key not in self._streamed:
            self._streamed[key] = self._streams.trial_bytes(config)
        return self._streamed[key]

    def _split(self, config: RunConfig) -> Split:
        data = config.evaluated_data()
        if (data.cell_type, data.fold) not in self._splits:
            chrom = gene_chroms(self._store, data.cell_type)
            self._splits[data.cell_type, data.fold] = self._store.folds.split(data.fold, chrom)
        return self._splits[data.cell_type, data.fold]


def total(seconds: Iterable[float | None]) -> float | None:
    """Sum of all, or None where one is not known."""
    found = 0.0
    for value in seconds:
        if value is None:
            return None
        found += value
    return found
