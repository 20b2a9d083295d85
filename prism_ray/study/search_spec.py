"""How a search proposes, prunes and chooses: plain frozen values that know no engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prism_ray.metrics import Direction
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.space import Dimension


@dataclass(frozen=True)
class Objective:
    """The metric that chooses, and its better direction."""

    metric: str
    direction: Direction


@dataclass(frozen=True)
class Finalists:
    """What is trained again after a search, to be compared.

    Attributes:
        k: settings that are trained again, see `finalists.choose_finalists`.
        patch: what is changed of their settings and of the baseline's, by dotted path.
        seeds: training seeds of each.
    """

    k: int
    patch: Mapping[str, Any]
    seeds: tuple[int, ...]

    @property
    def n_trials(self) -> int:
        """Trials of the finalists and of the baseline beside them."""
        return (self.k + 1) * len(self.seeds)


@dataclass(frozen=True)
class Search:
    """How a search proposes settings.

    Attributes:
        space: searched settings; a dimension's condition names only dimensions before it.
        sampler: `tpe` learns from finished trials, `random` does not.
        n_trials: different settings to train.
        n_startup_trials: settings drawn at random before TPE learns.
        seed: seed of the sampler.
        pruner: which trials are stopped before their end; None for none.
        finalists: what is trained again in the end; None for nothing.
        warm_start: whether the sampler is told first of finished trials that it could have proposed.
    """

    space: tuple[Dimension, ...]
    sampler: Literal["tpe", "random"]
    n_trials: int
    n_startup_trials: int
    seed: int
    pruner: SuccessiveHalving | None = None
    finalists: Finalists | None = None
    warm_start: bool = False

    def content(self) -> dict[str, Any]:
        """What decides the proposals and their outcomes, as JSON types; what is at its default is left out.

        A search may be continued with more trials, so `n_trials` is no part of it; nor are the finalists, which come
        after all proposals.
        """
        content: dict[str, Any] = {
            "space": [[dimension.path, dimension.to_json()] for dimension in self.space],
            # Random proposals have no start to speak of, and a default that grows with n_trials.
            "sampler": [self.sampler, self.n_startup_trials if self.sampler == "tpe" else 0, self.seed],
        }
        if self.pruner is not None:
            content["pruner"] = ["asha", self.pruner.reduction, self.pruner.min_fraction]
        if self.warm_start:
            content["warm_start"] = True
        return content

    def finalists_content(self) -> dict[str, Any]:
        """What decides the finalists beside the proposals, as JSON types; empty without any."""
        chosen = self.finalists
        if chosen is None:
            return {}
        patch = json.loads(json.dumps(dict(chosen.patch), sort_keys=True))
        return {"finalists": [chosen.k, patch, list(chosen.seeds)]}
