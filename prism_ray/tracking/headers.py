"""What a tracker is told of a study and of a trial, and what anything that tracks can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

CLAIMS_CHANGED_TAG = "prism.claims_changed"
"""Tag of a parent run: `true` where a later launch claimed something else than the first."""

Status = Literal["FINISHED", "FAILED", "KILLED"]

OUTCOME_TAG = "prism.outcome"
"""Tag of a trial's run that says more than its status."""
SYSTEM_PREFIX = "system/"
"""Of metrics of the machine, which the UI shows under a heading of their own."""
PRUNED = "pruned"
"""Value of that tag: its search stopped the trial before its end, as worse than others. Its status is KILLED."""


@dataclass(frozen=True)
class Expected:
    """A claim about two arms, declared before the runs.

    Attributes:
        arm: that it is about.
        than: arm that it is compared with.
        to_be: what is claimed of `arm`.
        margin: largest difference of the metric that does not matter; None where none was declared.
    """

    arm: str
    than: str
    to_be: Literal["better", "worse", "same"]
    margin: float | None = None


@dataclass(frozen=True)
class StudyHeader:
    """What a parent run says about its study.

    Attributes:
        name: of the study; the experiment has the same name.
        question: what the study asks.
        claim: what its source says about it; may be empty.
        source: paper section or address of that claim; may be empty.
        kind: `ablation` compares arms, `evaluation` gives trained models other input, `search` looks for good settings.
        baseline: arm that the others are compared with; None where there is none.
        arms: their names in the order of the study file.
        metric: what is compared, `split/name`, for example `test/mse`.
        direction: whether less or more of it is better.
        curve: dotted config path on the x axis of an ordered study, for example `model.n_states`.
        seeds, folds, cell_types: what every arm is run for.
        n_trials: number of trials that the study has when it is complete.
        study_digest: SHA-256 of the expanded study.
        data_digest: digest of the feature store.
        results_version: integer that every change of the numbers raises.
        command: how to repeat the study.
        benchmark: name of the published benchmark whose data and labels these are, for example `geneexp`;
            None for any other data. Published numbers are shown only where it is theirs.
        references: arms that are compared with another arm than the baseline, and with which.
        evaluated_on: arms whose models are evaluated on another cell type than they are trained on, and on which.
        expectations: claims to be judged.
        tags: more tags of the parent run, for example the commit; trials of the study get them too.
        second_metric, second_direction: what a search weighs against `metric`, as its column is named, and its better
            direction; None for nothing.
        n_proposals: different settings that a search trains; None for other studies.
        finalist_seeds: seeds of a search's finalists, whose arms are `arms`; empty where it has none.
        objective, objective_direction: what models are chosen by, on validation genes, as its column is named.
    """

    name: str
    question: str
    claim: str
    source: str
    kind: Literal["ablation", "evaluation", "search"]
    baseline: str | None
    arms: tuple[str, ...]
    metric: str
    direction: Literal["minimize", "maximize"]
    curve: str | None
    seeds: tuple[int, ...]
    folds: tuple[str, ...]
    n_trials: int
    cell_types: tuple[str, ...]
    study_digest: str
    data_digest: str
    results_version: int
    command: str
    benchmark: str | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    evaluated_on: Mapping[str, str] = field(default_factory=dict)
    expectations: tuple[Expected, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    second_metric: str | None = None
    second_direction: Literal["minimize", "maximize"] | None = None
    n_proposals: int | None = None
    finalist_seeds: tuple[int, ...] = ()
    objective: str = "best/mse"
    objective_direction: Literal["minimize", "maximize"] = "minimize"

    @property
    def objective_is_less(self) -> bool:
        """Whether less of the objective is better."""
        return self.objective_direction == "minimize"

    def reference(self, arm: str) -> str | None:
        """Arm that an arm is compared with; None for the baseline itself, or where there is none."""
        found = self.references.get(arm, self.baseline)
        return None if found == arm else found

    @property
    def compared_with(self) -> str:
        """What a difference is a difference from, in words; empty where nothing is compared."""
        return "its reference arm" if self.references else self.baseline or ""

    def arms_on(self, cell_type: str) -> list[str]:
        """Arms with trials on a cell type that models are trained on, in order."""
        return [arm for arm in self.arms if self.evaluated_on.get(arm) != cell_type]

    def to_json(self) -> str:
        """The header as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> StudyHeader:
        """The header that `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        for name in ("arms", "seeds", "folds", "cell_types", "finalist_seeds"):
            content[name] = tuple(content.get(name, ()))
        # Runs of before there were claims have none.
        content["expectations"] = tuple(Expected(**one) for one in content.get("expectations", ()))
        return cls(**content)


@dataclass(frozen=True)
class TrialHeader:
    """What a run says about its trial.

    Attributes:
        study, arm, seed, fold, cell_type: its place in the study.
        trial_id: its identity; a run with the same one under the same parent is the same run.
        fingerprint: of its scientific config.
        data_digest: digest of the feature store.
        parameters: the scientific config, flat, by dotted path.
        tags: more tags of the run.
    """

    study: str
    arm: str
    seed: int
    fold: str
    cell_type: str
    trial_id: str
    fingerprint: str
    data_digest: str
    parameters: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)

    def all_tags(self) -> dict[str, str]:
        """Tags that say whose run it is, and those given."""
        own = {
            "prism.study": self.study,
            "prism.arm": self.arm,
            "prism.seed": str(self.seed),
            "prism.fold": self.fold,
            "prism.cell_type": self.cell_type,
            "prism.trial_id": self.trial_id,
            "prism.fingerprint": self.fingerprint,
            "prism.data_digest": self.data_digest,
        }
        return {**self.tags, **own}


class TrialLog(Protocol):
    """The run of one trial, while it trains. No method raises because the tracker is away."""

    @property
    def run_id(self) -> str | None:
        """Run of the trial; None as long as the tracker could not be reached to open it."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of a step, by `split/name`."""

    def log_files(self, files: Mapping[str, Path]) -> None:
        """Local files to keep with the run, by their path among its artifacts."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """More tags of the run."""

    def finish(self, status: Status) -> None:
        """End the run."""


class Tracker(Protocol):
    """Records studies and trials. Opening what was opened before goes on with it and doubles nothing."""

    def open_study(self, header: StudyHeader, files: Mapping[str, Path | str]) -> str:
        """Parent run of a study: found again by study digest and data digest, or made.

        Args:
            header: what the run says.
            files: local files, or texts, to keep with it, by their path among its artifacts.

        Raises:
            TrackingError: the tracker cannot be reached or refuses.
        """

    def open_trial(self, parent_run_id: str, header: TrialHeader, *, journal_path: Path | None = None) -> TrialLog:
        """Run of a trial under its study: found again by trial id, or made. Never raises for an absent tracker.

        Args:
            parent_run_id: run of the study.
            header: what the run says.
            journal_path: file that keeps what could not be delivered; None to keep it in memory only.
        """

    def close_study(self, parent_run_id: str, status: Status, metrics: Mapping[str, float]) -> None:
        """End the parent run with its summary metrics.

        Raises:
            TrackingError: the tracker cannot be reached or refuses.
        """


class NullTrialLog:
    """Keeps nothing."""

    run_id: str | None = None

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop the metrics."""

    def log_files(self, files: Mapping[str, Path]) -> None:
        """Leave the files where they are."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Drop the tags."""

    def finish(self, status: Status) -> None:
        """Nothing to end."""


class NullTracker:
    """Tracks nowhere."""

    def open_study(self, header: StudyHeader, files: Mapping[str, Path | str]) -> str:
        """Empty text: there is no run."""
        return ""

    def open_trial(self, parent_run_id: str, header: TrialHeader, *, journal_path: Path | None = None) -> TrialLog:
        """A log that keeps nothing."""
        return NullTrialLog()

    def close_study(self, parent_run_id: str, status: Status, metrics: Mapping[str, float]) -> None:
        """Nothing to end."""
