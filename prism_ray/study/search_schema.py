"""What a study file may say of a search: its space, its pruner, its finalists.

How these must fit each other, the settings that they name and the rest of the file is checked in `search_space.py`
and `search_checks.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from prism_ray.config import Name, Real
from prism_ray.documents import StrictModel
from prism_ray.study.entry_values import Patch, Seed, once_each
from prism_ray.study.space import DOMAIN_NAMES, Domain, Scalar, domain_from_json


class ConditionEntry(StrictModel):
    """Values of another searched setting at which a setting is varied."""

    at_least: Real | None = None
    at_most: Real | None = None
    one_of: tuple[Scalar, ...] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ConditionEntry:
        if not self.model_fields_set:
            raise ValueError("a condition is empty; give at_least, at_most or one_of")
        return self


class SubsetEntry(StrictModel):
    """Some of several names."""

    of: tuple[Name, ...]
    min_size: int = 0


class DimensionEntry(StrictModel):
    """Domain of one searched setting: exactly one of the five kinds, and when it applies."""

    uniform: tuple[Real, Real] | None = None
    """[low, high], decimals."""
    loguniform: tuple[Real, Real] | None = None
    """[low, high], decimals above 0, each order of magnitude as likely."""
    int_range: tuple[int, int] | None = None
    """[low, high], whole numbers, both ends included."""
    choice: tuple[Scalar, ...] | None = None
    """Numbers, texts or booleans."""
    subset: SubsetEntry | None = None
    """Some of the names in `of`, at least `min_size`."""
    when: dict[str, ConditionEntry] | None = None
    """One other searched setting, above this one, and the values at which this one is varied."""

    @model_validator(mode="after")
    def _one_domain(self) -> DimensionEntry:
        given = [name for name in DOMAIN_NAMES if getattr(self, name) is not None]
        if len(given) != 1:
            listed = ", ".join(given) or "none"
            raise ValueError(f"gives {len(given)} domains ({listed}); use exactly one of {', '.join(DOMAIN_NAMES)}")
        if self.when is not None and len(self.when) != 1:
            raise ValueError(f"when names {len(self.when)} settings; name exactly one")
        self.domain()
        return self

    def domain(self) -> Domain:
        """The domain.

        Raises:
            ConfigError: it allows nothing.
        """
        return domain_from_json(self.model_dump(include=set(DOMAIN_NAMES), exclude_none=True))


Space = dict[str, DimensionEntry]


class PrunerEntry(StrictModel):
    """Whether trials of a search are stopped before their end."""

    kind: Literal["none", "asha"]
    """`asha`: asynchronous successive halving; `none`: every trial trains to its end."""
    reduction: int = Field(default=3, ge=2)
    """asha: of this many trials that were judged at the same step, the best one goes on."""
    min_fraction: Real = Field(default=0.1, gt=0, lt=1)
    """asha: part of its steps that every trial trains; it is judged there, and again at each `reduction` times that."""

    @model_validator(mode="after")
    def _has_effect(self) -> PrunerEntry:
        if self.kind == "none" and (given := sorted(self.model_fields_set - {"kind"})):
            raise ValueError(f"{', '.join(given)} has no effect with kind: none; remove it, or use kind: asha")
        return self


class FinalistsEntry(StrictModel):
    """Which settings of a search are trained again, to be compared with each other and with the baseline."""

    k: int = Field(ge=1)
    """Settings that are trained again: those that did best on validation."""
    patch: Patch = Field(default_factory=dict)
    """What is changed of their settings and of the baseline's, usually training.n_steps."""
    seeds: tuple[Seed, ...]
    """Training seeds of each."""

    @field_validator("seeds")
    @classmethod
    def _unique(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return once_each(values)


class SearchEntry(StrictModel):
    """How a search proposes settings."""

    space: Space = Field(min_length=1)
    """Dotted path -> domain."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe` learns from finished trials (tree-structured Parzen estimator), `random` does not."""
    n_trials: int = Field(ge=1)
    """Different settings to train."""
    n_startup_trials: int | None = Field(default=None, ge=1)
    """tpe: settings drawn at random before it learns; 10 where not given. Another number is another search, more
    n_trials are the same one continued."""
    seed: Seed = 0
    """Seed of the sampler."""
    pruner: PrunerEntry = PrunerEntry(kind="none")
    """Whether trials are stopped before their end."""
    finalists: FinalistsEntry | None = None
    """What is trained again over seeds; without it a search compares nothing."""
    warm_start: bool = False
    """Whether the sampler is told first of finished trials of the workspace that this search could have proposed."""

    @model_validator(mode="after")
    def _startup_has_effect(self) -> SearchEntry:
        if self.n_startup_trials is not None:
            if self.sampler == "random":
                raise ValueError("n_startup_trials has no effect with sampler: random; remove it")
            if self.n_startup_trials > self.n_trials:
                raise ValueError(f"n_startup_trials {self.n_startup_trials} is above n_trials {self.n_trials}")
        return self


class SmokeSearchEntry(StrictModel):
    """What a scaled-down search has different."""

    space: Space | None = None
    """Domains that replace those of the same paths."""
    n_trials: int | None = Field(default=None, ge=1)
    n_startup_trials: int | None = Field(default=None, ge=1)
    pruner: PrunerEntry | None = None
    """Replaces the full scale's."""
    finalists: FinalistsEntry | None = None
    """Replaces the full scale's."""
