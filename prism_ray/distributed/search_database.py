"""The search of a study in Optuna's database, which holds the only truth about what was proposed and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from prism_ray.distributed.search_storage import open_storage
from prism_ray.distributed.spaces import distribution_of
from prism_ray.distributed.warm_start import WarmStart
from prism_ray.study.finalists import Outcome
from prism_ray.study.search_spec import Search
from prism_ray.study.space import Scalar
from prism_ray.study.spec import Study

IDENTITY_KEY = "prism.trial_id"
"""Attribute of an Optuna trial: the identity of its run."""

WARM_KEY = "prism.warm_start"
"""Attribute of an Optuna trial that the workspace had before the search: it counts among no proposals."""

SETTLED = (TrialState.COMPLETE, TrialState.PRUNED)
_PROPOSED = (*SETTLED, TrialState.FAIL, TrialState.RUNNING)
_PREFERENCE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class SearchCounts:
    """Different settings of a search, by how they ended; those that still run are in none.

    Attributes:
        complete: trained to their end.
        pruned: stopped before it, as worse than others.
        failed: ended without a number.
        warm_starts: known before the search; not among the others.
    """

    complete: int
    pruned: int
    failed: int
    warm_starts: int


@dataclass(frozen=True)
class SearchDatabase:
    """One study's search in a database; connections are opened at first use.

    Attributes:
        study: a study with a search.
        location: of the database, see `open_storage`.
        data_digest: digest of the feature store; other data are another search.
    """

    study: Study
    location: str | Path
    data_digest: str

    @property
    def search(self) -> Search:
        """How the study searches."""
        assert self.study.search is not None
        return self.study.search

    @property
    def name(self) -> str:
        """Name in the database: the study, what it asks and the data, so that nothing else is ever mixed in."""
        return f"{self.study.name}-{self.study.proposals_digest()[:12]}-{self.data_digest[:12]}"

    @cached_property
    def optuna_study(self) -> optuna.Study:
        """The search as Optuna has it, made where it is not there; its sampler is seeded by what it holds."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=open_storage(self.location),
            study_name=self.name,
            directions=[objective.direction for objective in self.study.objectives],
            load_if_exists=True,
        )
        study.sampler = _sampler(self.search, len(study.get_trials(deepcopy=False)))
        return study

    def by_identity(self, states: tuple[TrialState, ...]) -> dict[str, list[FrozenTrial]]:
        """Trials in one of the states, by the identity of their run; those told of before the search as well."""
        found: dict[str, list[FrozenTrial]] = {}
        for trial in self.optuna_study.get_trials(deepcopy=False, states=states):
            if IDENTITY_KEY in trial.user_attrs:
                found.setdefault(trial.user_attrs[IDENTITY_KEY], []).append(trial)
        return found

    def proposed(self, states: tuple[TrialState, ...] = _PROPOSED) -> dict[str, list[FrozenTrial]]:
        """Trials in one of the states that the search itself proposed, by the identity of their run."""
        warm = {name for name, trials in self.by_identity((TrialState.COMPLETE,)).items() if any(map(_is_warm, trials))}
        return {name: trials for name, trials in self.by_identity(states).items() if name not in warm}

    def known(self, identity: str, number: int) -> FrozenTrial | None:
        """The best outcome of the same settings under another number, or None."""
        trials = [trial for trial in self.by_identity(_PREFERENCE).get(identity, []) if trial.number != number]
        return min(trials, key=lambda trial: _PREFERENCE.index(trial.state), default=None)

    def failed(self) -> dict[str, FrozenTrial]:
        """Proposals that failed and have no outcome since, by the identity of their run."""
        settled = self.by_identity((*SETTLED, TrialState.RUNNING))
        failed = self.by_identity((TrialState.FAIL,))
        return {identity: trials[0] for identity, trials in failed.items() if identity not in settled}

    def counts(self) -> SearchCounts:
        """How the settings of the search ended."""
        complete, pruned = (set(self.proposed((state,))) for state in SETTLED)
        warm = [trial for trial in self.optuna_study.get_trials(deepcopy=False) if _is_warm(trial)]
        return SearchCounts(len(complete), len(pruned - complete), len(self.failed()), len(warm))

    def proposals(self) -> list[dict[str, Scalar]]:
        """Encoded values of all different settings proposed so far, in the order of their proposal."""
        first = sorted(self.proposed().values(), key=lambda trials: trials[0].number)
        return [dict(trials[0].params) for trials in first]

    def outcomes(self) -> list[Outcome]:
        """Different settings that were trained to their end, those known before the search included."""
        trials = [trials[0] for trials in self.by_identity((TrialState.COMPLETE,)).values()]
        return [
            Outcome(dict(trial.params), tuple(trial.values)) for trial in sorted(trials, key=lambda one: one.number)
        ]

    def add_warm_starts(self, found: Iterable[WarmStart]) -> None:
        """Add finished trials of the workspace whose settings the database does not hold in any state."""
        every_state = tuple(TrialState)
        known = set(self.by_identity(every_state))
        distributions = {dimension.path: distribution_of(dimension.domain) for dimension in self.search.space}
        for start in found:
            if start.trial_id not in known:
                self.optuna_study.add_trial(
                    optuna.trial.create_trial(
                        params=dict(start.values),
                        distributions={path: distributions[path] for path in start.values},
                        values=list(start.scores),
                        user_attrs={IDENTITY_KEY: start.trial_id, WARM_KEY: True},
                    )
                )

    def warm_start_values(self) -> list[Mapping[str, Scalar]]:
        """Encoded values of the trials that were known before the search."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        return [dict(trial.params) for trial in trials if _is_warm(trial)]


def _is_warm(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(WARM_KEY))


def _sampler(search: Search, n_existing: int) -> BaseSampler:
    """The study's sampler, seeded by what there is: with the same seed a resumed search would repeat its start."""
    seed = int(np.random.SeedSequence([search.seed, n_existing]).generate_state(1)[0])
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    # Trials run side by side: the constant liar keeps them from proposing the same.
    return TPESampler(seed=seed, n_startup_trials=search.n_startup_trials, constant_liar=True)
