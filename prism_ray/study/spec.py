"""A study: what is asked, which arms or domains answer it, and how often each is repeated.

These are plain frozen values that know no engine. `load_study` makes them from a file; a script may make
the same values where a file cannot say what it wants.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

from prism_ray.config import RunConfig, flatten, patched
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.study.expectations import Expectation
from prism_ray.study.identity import RESULTS_VERSION, trial_id
from prism_ray.study.search_spec import Objective, Search
from prism_ray.study.space import Scalar, Subset

STUDY_OWNED: Mapping[str, str] = {"seed": "seeds", "data.fold": "folds", "data.cell_type": "cell_types"}
"""Settings that a study gives to every trial itself, with the field of the study that holds them."""


@dataclass(frozen=True)
class Arm:
    """One setting that a study compares with others.

    Attributes:
        name: unique in its study.
        patch: what it changes of the baseline, by dotted path.
        reason: why it is in the study, one line.
        config: its settings; seed, fold and cell type are set for each trial.
        reference: name of the arm that it is compared with; None for the study's baseline arm.
    """

    name: str
    patch: Mapping[str, Any]
    reason: str
    config: RunConfig
    reference: str | None = None

    def runs_on(self, cell_type: str) -> bool:
        """Whether it has trials on a cell type: evaluated on the one that it is trained on it would be another arm."""
        return self.config.evaluation.cell_type != cell_type


@dataclass(frozen=True)
class Budget:
    """Limits of a study; None is no limit.

    Attributes:
        max_trials: most trials that it may have; a study with more is refused.
        gpu_hours: GPU-hours that its trials may hold GPUs, over all launches and whatever came of it.
        wall_hours: hours that one launch may take.
        max_failures: failed trials at which a launch ends; those of earlier launches count until they are retried.
    """

    max_trials: int | None = None
    gpu_hours: float | None = None
    wall_hours: float | None = None
    max_failures: int | None = None


@dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
        study: name of the study.
        arm: name of the arm, or of the proposal of a search.
        config: settings with seed, fold and cell type.
    """

    study: str
    arm: str
    config: RunConfig

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def fold(self) -> str:
        return self.config.data.fold

    @property
    def cell_type(self) -> str:
        return self.config.data.cell_type

    @property
    def name(self) -> str:
        """Readable name, unique in the study."""
        return f"{self.arm}-{self.cell_type}-{self.fold}-seed{self.seed}"

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the settings, 64 hexadecimal digits."""
        return self.config.fingerprint()

    def trial_id(self, data_digest: str) -> str:
        """Identity on the data of that digest, 16 hexadecimal digits."""
        return trial_id(self.config, data_digest)


@dataclass(frozen=True)
class Study:
    """A question with all that is needed to answer it.

    Attributes:
        name: name of its experiment; the file's name, with `-smoke` where it is scaled down and `-set-` and six
            digits of what is replaced where a launch replaces settings.
        path: file that it was read from.
        question: what is asked, in a sentence.
        claim: what its source says.
        source: where the claim is made.
        kind: `ablation` compares arms; `evaluation` gives trained models other input; `search` looks for the best
            settings in a space.
        baseline: settings that arms and proposals change.
        arms: in the order of the report; empty for a search.
        baseline_arm: name of the arm that others are compared with; None for a search.
        changes: settings that arms mean to change; no arm changes another.
        curve: setting on the report's x axis, or None.
        expectations: claims about its arms, which the report judges.
        seeds: training seeds; every arm has all of them, so that arms can be compared seed by seed.
        folds: names of the folds.
        cell_types: names of the cell types.
        objective: metric that chooses among arms or proposals.
        report_metric: metric of the report.
        budget: limits.
        search: how a search proposes; None for an ablation.
        second_objective: what a search weighs against the first; None for nothing.
        overrides: settings replaced for this launch alone, by dotted path.
        is_smoke: whether it is scaled down to minutes.
    """

    name: str
    path: Path
    question: str
    claim: str
    source: str
    kind: Literal["ablation", "evaluation", "search"]
    baseline: RunConfig
    arms: tuple[Arm, ...]
    baseline_arm: str | None
    changes: tuple[str, ...]
    curve: str | None
    seeds: tuple[int, ...]
    folds: tuple[str, ...]
    cell_types: tuple[str, ...]
    objective: Objective
    report_metric: str
    budget: Budget = Budget()
    search: Search | None = None
    second_objective: Objective | None = None
    expectations: tuple[Expectation, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    is_smoke: bool = False

    @property
    def overrides_text(self) -> str:
        """What this launch replaces, in a line; empty where it replaces nothing."""
        return ", ".join(f"{path} = {json.dumps(value)}" for path, value in self.overrides.items())

    @property
    def n_trials(self) -> int:
        """Trials of an ablation or evaluation; for a search its different settings, and its finalists' trials."""
        if self.search is not None:
            finalists = self.search.finalists
            return self.search.n_trials + (finalists.n_trials if finalists is not None else 0)
        n_kinds = sum(arm.runs_on(cell_type) for arm in self.arms for cell_type in self.cell_types)
        return n_kinds * len(self.seeds) * len(self.folds)

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        Raises:
            ConfigError: there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        fix = did_you_mean(name, [arm.name for arm in self.arms])
        raise ConfigError(f"{self.path}: arms: the study {self.name} has no arm {name!r}; {fix}")

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objective, and the second one where there is one."""
        return (self.objective,) if self.second_objective is None else (self.objective, self.second_objective)

    def digest(self) -> str:
        """SHA-256 of what decides the study's numbers, 64 hexadecimal digits: not its wording, not its budget.

        A search may be continued with more trials, so `n_trials` is no part of it.
        """
        search = self.search
        return _sha256({**self._content(), **(search.finalists_content() if search is not None else {})})

    def proposals_digest(self) -> str:
        """SHA-256 of what decides a search's proposals and their outcomes: other finalists do not search again."""
        return _sha256(self._content())

    def _content(self) -> dict[str, Any]:
        second = self.second_objective
        return {
            "results_version": RESULTS_VERSION,
            "name": self.name,
            "kind": self.kind,
            "baseline": self.baseline.canonical(),
            "arms": [[arm.name, arm.config.fingerprint()] for arm in self.arms],
            "baseline_arm": self.baseline_arm,
            "seeds": self.seeds,
            "folds": self.folds,
            "cell_types": self.cell_types,
            "objective": [self.objective.metric, self.objective.direction],
            **({"second_objective": [second.metric, second.direction]} if second is not None else {}),
            "search": None if self.search is None else self.search.content(),
        }

    def with_place(self, config: RunConfig, seed: int, fold: str, cell_type: str) -> RunConfig:
        """`config` for one seed, fold and cell type."""
        data = config.data.model_copy(update={"fold": fold, "cell_type": cell_type})
        return config.model_copy(update={"seed": seed, "data": data})

    def config_at(self, config: RunConfig) -> RunConfig:
        """`config` at the study's first seed, fold and cell type, where its proposals are trained."""
        return self.with_place(config, self.seeds[0], self.folds[0], self.cell_types[0])

    def config_for(
        self, values: Mapping[str, Any], seed: int | None = None, fold: str | None = None, cell_type: str | None = None
    ) -> RunConfig:
        """Settings of one proposal of a search.

        Args:
            values: value of each varied setting by dotted path; as the domains have them or encoded.
            seed: training seed; the study's first where not given, as for the fold and the cell type.

        Raises:
            ConfigError: a value missing, not asked for, or outside its domain; settings that contradict each other.
        """
        patch = self._decoded(values)
        config = patched(self.baseline, patch, f"{self.path}: search.space")
        return self.with_place(
            config,
            self.seeds[0] if seed is None else seed,
            self.folds[0] if fold is None else fold,
            self.cell_types[0] if cell_type is None else cell_type,
        )

    def values_of(self, config: RunConfig) -> dict[str, Scalar] | None:
        """Encoded values of the proposal that has these settings; None where no proposal of the search has them."""
        settings = flatten(config.model_dump())
        values: dict[str, Any] = {}
        encoded: dict[str, Scalar] = {}
        for dimension in self.search.space if self.search is not None else ():
            if not dimension.is_varied(values):
                continue
            value = settings[dimension.path]
            if not dimension.domain.contains(value):
                return None
            values[dimension.path] = value
            encoded[dimension.path] = dimension.domain.encode(value)
        return encoded if self.config_for(values).fingerprint() == config.fingerprint() else None

    def search_extremes(self) -> tuple[RunConfig, ...]:
        """Settings that between them read all that any proposal reads: longest window, all members of a subset."""
        space = self.search.space if self.search is not None else ()
        read = [dimension for dimension in space if dimension.path.startswith("data.")]
        names = [dimension.path.removeprefix("data.") for dimension in read]
        options: list[tuple[Any, ...]] = [
            (dimension.domain.of,) if isinstance(dimension.domain, Subset) else dimension.domain.corners()
            for dimension in read
        ]
        data = self.baseline.data
        return tuple(
            self.baseline.model_copy(update={"data": data.model_copy(update=dict(zip(names, chosen, strict=True)))})
            for chosen in product(*options)
        )

    def _decoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        where = f"{self.path}: search.space"
        space = self.search.space if self.search is not None else ()
        faults = FaultList()
        patch: dict[str, Any] = {}
        for dimension in space:
            path = dimension.path
            if not dimension.is_varied(patch):
                if path in values:
                    faults.add(f"{where}.{path}", f"{values[path]!r} is given where its condition does not hold")
                continue
            if path not in values:
                faults.add(f"{where}.{path}", "has no value in this proposal")
                continue
            value = dimension.domain.decode(values[path])
            if not dimension.domain.contains(value):
                faults.add(f"{where}.{path}", f"{value!r} is outside {dimension.domain.to_json()}")
                continue
            patch[path] = value
        known = [dimension.path for dimension in space]
        for path in values:
            if path not in known:
                faults.add(f"{where}.{path}", "is not searched", did_you_mean(path, known))
        faults.raise_if_any(ConfigError)
        return patch


def _sha256(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
