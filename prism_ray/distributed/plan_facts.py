"""What a plan is made with, and what it says. Loads neither Ray nor PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prism_ray.distributed.loading_choice import LoadingAsked
from prism_ray.distributed.packing import Packing
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.scale import scale_warnings
from prism_ray.store import StorePlace


@dataclass(frozen=True)
class PlanSettings:
    """Where and on how much a study would run.

    Attributes:
        store: feature store.
        storage: workspace with what is finished and what was measured.
        resources: what each trial takes.
        max_concurrent: trials at once; None for as many as fit.
        packing: part of a GPU by measured memory, in place of that of `resources`; None for what these say.
        tracking_uri: MLflow store; empty for one that keeps nothing in the workspace.
        loading: how trials get their genes, as asked.
    """

    store: StorePlace
    storage: Path
    resources: TrialResources = field(default_factory=TrialResources)
    max_concurrent: int | None = None
    packing: Packing | None = None
    tracking_uri: str = ""
    loading: LoadingAsked = "auto"

    @property
    def each(self) -> TrialResources:
        """What each trial takes."""
        return self.resources if self.packing is None else self.packing.each


@dataclass(frozen=True)
class PlanRow:
    """One arm of a plan, or one end of a search's space.

    Attributes:
        name: of the arm; of a search, which of its ends.
        n_trials, n_left: trials of it, and those of them that are not finished.
        window_bp, signals, sequence: what its trials read along the window.
        n_states: background states.
        read_bytes: compressed bytes of the store that a trial reads.
        step_s: seconds a training step; None where it was not measured.
        source: where that comes from: `probe`, `records`, `between`, or empty.
        trial_s: seconds a trial; None where not measured.
        peak_bytes: measured memory of its step; None where not measured.
    """

    name: str
    n_trials: int
    n_left: int
    window_bp: int
    signals: tuple[str, ...]
    sequence: bool
    n_states: int
    read_bytes: int
    step_s: float | None
    source: str
    trial_s: float | None
    peak_bytes: int | None = None

    @property
    def is_to_come(self) -> bool:
        """Whether trials like it are left, as far as is known: how many are at an end of a search's space is not."""
        return self.n_left > 0 or not self.n_trials


@dataclass(frozen=True)
class Plan:
    """What a launch would do.

    Attributes:
        study, question, kind: of the study.
        overrides: settings that it replaces, in a line.
        data_digest: of the store.
        n_trials, n_finished: trials of the study, and those of them that are finished.
        n_linked: of the finished ones, those that only other studies of the workspace contain: their results are used.
        n_evaluations: of those left, trials that evaluate a trained model and train none.
        n_models_first: models that are trained before, because those evaluations need them and nothing has them.
        rows: arms; of a search its smallest and largest proposal, and its finalists with the baseline.
        unmeasured: arms whose step was never measured.
        device: on which the measured steps ran; empty where none was.
        unit: `GPU-hours`, or `CPU-hours` without a GPU.
        hours: of all that is left; None where something is not measured. At most: of a search, if every proposal were
            the largest; where trials share a GPU, if none gained by it.
        hours_least: the same if every proposal were the smallest, and trials that share a GPU ran as if alone.
        wall_s: seconds that the launch takes with `n_slots` trials at once and `hours`; None where not measured.
        n_slots: trials at once, and `slots_by` why.
        read_bytes: compressed bytes of all different projections that are left to read: what a node reads that keeps
            them decoded.
        stream_bytes: what all nodes read together where every trial streams its genes, of a search at most; None where
            that was not asked for. Exact for trials of the first seed: another one's windows that are not whole differ.
        largest_bytes, all_bytes: decoded bytes of the largest projection, and of all different ones.
        peak_bytes: measured memory of the largest trial's step; None where not measured.
        trials_a_gpu: trials that share a GPU; 0 without a GPU.
        packing: why so many, where that was measured; empty where it was asked for.
        storage_bytes: of the workspace's disk that the launch writes, at most; what each node is asked for.
        budget: hours that the study's budget has, by the name of the cap: `wall_hours` a launch, `gpu_hours` in all.
    """

    study: str
    question: str
    kind: str
    overrides: str
    data_digest: str
    n_trials: int
    n_finished: int
    n_linked: int
    n_evaluations: int
    n_models_first: int
    rows: tuple[PlanRow, ...]
    unmeasured: tuple[str, ...]
    device: str
    unit: str
    hours: float | None
    hours_least: float | None
    wall_s: float | None
    n_slots: int
    slots_by: str
    read_bytes: int
    largest_bytes: int
    all_bytes: int
    peak_bytes: int | None
    trials_a_gpu: int
    packing: str
    storage_bytes: int
    stream_bytes: int | None = None
    budget: Mapping[str, float] = field(default_factory=dict)

    @property
    def n_left(self) -> int:
        """Trials that are not finished."""
        return self.n_trials - self.n_finished

    @property
    def warnings(self) -> tuple[str, ...]:
        """What of the launch goes beyond its budget, one driver or one tracking server, see `scale_warnings`."""
        known = [(row.trial_s, row.n_left) for row in self.rows if row.trial_s is not None and row.n_left]
        n_known = sum(number for _, number in known)
        mean_s = sum(seconds * number for seconds, number in known) / n_known if n_known else None
        return (*self._beyond_budget(), *scale_warnings(self.n_trials, self.n_slots, mean_s))

    def _beyond_budget(self) -> Iterator[str]:
        """Caps at which a launch is going to end, by the hours that are left to do."""
        most = "" if self.hours == self.hours_least else "at most "
        left = {
            "wall_hours": None if self.wall_s is None else self.wall_s / 3600,
            "gpu_hours": self.hours if self.unit == "GPU-hours" else None,
        }
        for name, cap in self.budget.items():
            hours = left[name]
            if hours is not None and hours > cap:
                yield f"budget.{name} is {cap:g}, what is left takes {most}{hours:.3g}: a launch ends there, resumable"

    def document(self) -> dict[str, Any]:
        """The plan as JSON types."""
        return {**asdict(self), "n_left": self.n_left, "warnings": self.warnings}
