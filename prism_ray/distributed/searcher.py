"""The searcher of a study: Optuna proposes, Ray Tune runs, and the database holds the only truth.

Ours instead of Ray's OptunaSearch, which tells Optuna that stopped trials were completed, leaves trials
without a number running for ever, mixes the studies of one database, and repeats its first proposals when
it is resumed.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from prism_ray.distributed.spaces import ask_values
from prism_ray.errors import ConfigError
from prism_ray.study.identity import trial_id as identity_of
from prism_ray.study.search_spec import Search
from prism_ray.study.space import Scalar
from prism_ray.study.spec import Study

FAILURE_KEY = "failure"
"""Key of a trial's last result: why it failed, or empty where it reached its end. Earlier results lack it."""

IDENTITY_KEY = "prism.trial_id"
"""Attribute of an Optuna trial: the identity of its run."""

_MAX_REPEATS = 50
"""Proposals in a row that were all trained before, after which a space counts as exhausted."""

_PREFERENCE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

_log = logging.getLogger(__name__)


def open_storage(location: str | Path) -> BaseStorage:
    """Optuna's database at a place.

    Args:
        location: a `.journal` file (on any shared folder), a `.db` file (SQLite, one machine) or a database URL.

    Raises:
        ConfigError: none of these.
    """
    if isinstance(location, str) and "://" in location:
        return RDBStorage(location)
    path = Path(location).absolute()
    if path.suffix not in (".journal", ".db"):
        raise ConfigError(f"{location}: is no searcher's database; use a .journal file, a .db file or a database URL")
    path.parent.mkdir(parents=True, exist_ok=True)
    return (
        JournalStorage(JournalFileBackend(str(path))) if path.suffix == ".journal" else RDBStorage(f"sqlite:///{path}")
    )


@dataclass
class _Running:
    """A trial that Tune runs, and trials with the same settings that wait for its outcome."""

    trial: optuna.Trial
    identity: str
    steps: set[int] = field(default_factory=set)
    followers: list[optuna.Trial] = field(default_factory=list)


class StudySearcher(Searcher):  # type: ignore[misc]
    """Proposes the settings of a study's search to Ray Tune; `suggest` gives `{"values": {path: value}}`.

    Made again on the same database, it goes on: trials that were running when an earlier launch ended are
    proposed again first, then those that failed, then new ones, until `n_trials` different settings were
    proposed. Settings that have an outcome are never trained again; Optuna is told the known one. One launch at
    a time may use a database.

    Args:
        study: a study with a search.
        storage: database, see `open_storage`.
        data_digest: digest of the feature store; other data are another search.
    """

    def __init__(self, study: Study, storage: str | Path, data_digest: str) -> None:
        mode = "min" if study.objective.direction == "minimize" else "max"
        super().__init__(metric=study.objective.metric, mode=mode)
        self._asked = study
        self._storage_location = storage
        self._data_digest = data_digest
        self._opened: optuna.Study | None = None
        self._running: dict[str, _Running] = {}
        self._interrupted: list[FrozenTrial] = []
        self._retry: dict[str, FrozenTrial] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher; connections stay behind, and the state is in the database.
        return {"study": self._asked, "storage": self._storage_location, "data_digest": self._data_digest}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def optuna_study_name(self) -> str:
        """Name in the database: the study, what it asks and the data, so that nothing else is ever mixed in."""
        return f"{self._asked.name}-{self._asked.digest()[:12]}-{self._data_digest[:12]}"

    @property
    def n_complete(self) -> int:
        """Different settings that have an outcome, stopped ones included, failed ones not."""
        return len(self._by_identity((TrialState.COMPLETE, TrialState.PRUNED)))

    def proposals(self) -> list[dict[str, Scalar]]:
        """Encoded values of all different settings proposed so far, in the order of their proposal."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
        first = sorted(self._by_identity(states).values(), key=lambda trials: trials[0].number)
        return [dict(trials[0].params) for trials in first]

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Whether Tune's metric and mode are those of the study, which decides both."""
        return metric in (None, self._metric) and mode in (None, self._mode) and not config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Values for a new trial, or `FINISHED`."""
        for _ in range(_MAX_REPEATS):
            trial = self._next_trial()
            if trial is None:
                return str(Searcher.FINISHED)
            values = ask_values(trial, self._search.space)
            identity = self._identity(trial, values)
            if self._must_train(trial, identity):
                self._running[trial_id] = _Running(trial, identity)
                return {"values": values}
        _log.warning(
            "%s: the last %d proposals were all trained before; the search ends after %d different settings",
            self._asked.name,
            _MAX_REPEATS,
            self.n_complete,
        )
        return str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Note an intermediate value, from which Optuna learns where the trial is stopped later."""
        self._note(self._running[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna the outcome: complete, pruned (stopped before its end) or failed (error, or no number)."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        if not error and not result:
            # Stopped before its first result, for example by an interrupt: the next launch proposes it again.
            return
        result = result or {}
        value = result.get(self._metric)
        reason = result.get(FAILURE_KEY) or ("its process died" if error else "")
        if reason:
            self._tell_failed(running, reason)
        elif not _is_finite(value):
            self._tell_failed(running, f"{self._metric} is {value}")
        elif FAILURE_KEY not in result:
            # Tune keeps the result on which it stops a trial from `on_trial_result`.
            self._note(running, result)
            self._tell_all(running, TrialState.PRUNED)
        else:
            self._tell_all(running, TrialState.COMPLETE, float(value))

    def save(self, checkpoint_path: str) -> None:
        """Write which of Tune's trials are which of Optuna's, as JSON; all else is in the database."""
        running = {trial_id: running.trial.number for trial_id, running in self._running.items()}
        content = {"optuna_study": self.optuna_study_name, "running": running}
        Path(checkpoint_path).write_text(json.dumps(content, indent=1))

    def restore(self, checkpoint_path: str) -> None:
        """Take up the trials of a saved searcher under their old names.

        Raises:
            ConfigError: it was saved by the searcher of another study.
        """
        content = json.loads(Path(checkpoint_path).read_text())
        if content["optuna_study"] != self.optuna_study_name:
            raise ConfigError(
                f"{checkpoint_path}: was saved by the search {content['optuna_study']}, not by {self.optuna_study_name}"
            )
        self._open()
        by_number = {frozen.number: frozen for frozen in self._interrupted}
        for trial_id, number in content["running"].items():
            frozen = by_number.get(number)
            if frozen is not None:
                self._interrupted.remove(frozen)
                trial = self._adopt(frozen)
                identity = self._identity(trial, ask_values(trial, self._search.space))
                self._running[trial_id] = _Running(trial, identity, set(frozen.intermediate_values))

    @property
    def _search(self) -> Search:
        assert self._asked.search is not None
        return self._asked.search

    def _open(self) -> optuna.Study:
        """The search in its database, opened at first use: a searcher is pickled and copied before."""
        if self._opened is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = optuna.create_study(
                storage=open_storage(self._storage_location),
                study_name=self.optuna_study_name,
                direction=self._asked.objective.direction,
                load_if_exists=True,
            )
            trials = study.get_trials(deepcopy=False)
            study.sampler = _sampler(self._search, len(trials))
            self._interrupted = [trial for trial in trials if trial.state == TrialState.RUNNING]
            self._opened = study
            settled = self._by_identity((TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))
            failed = self._by_identity((TrialState.FAIL,))
            self._retry = {identity: trials[0] for identity, trials in failed.items() if identity not in settled}
        return self._opened

    def _by_identity(self, states: tuple[TrialState, ...]) -> dict[str, list[FrozenTrial]]:
        found: dict[str, list[FrozenTrial]] = {}
        for trial in self._open().get_trials(deepcopy=False, states=states):
            if IDENTITY_KEY in trial.user_attrs:
                found.setdefault(trial.user_attrs[IDENTITY_KEY], []).append(trial)
        return found

    def _next_trial(self) -> optuna.Trial | None:
        """The next trial of Optuna: interrupted ones, then failed ones, then new ones; None at the end."""
        study = self._open()
        if self._interrupted:
            return self._adopt(self._interrupted.pop(0))
        if self._retry:
            study.enqueue_trial(next(iter(self._retry.values())).params)
            return study.ask()
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
        if len(self._by_identity(states)) >= self._search.n_trials:
            return None
        return study.ask()

    def _adopt(self, frozen: FrozenTrial) -> optuna.Trial:
        # Optuna has no public way from a stored trial to one that can be told intermediate values.
        return optuna.Trial(self._open(), frozen._trial_id)

    def _identity(self, trial: optuna.Trial, values: Mapping[str, Scalar]) -> str:
        try:
            config = self._asked.config_for(values)
        except ConfigError:
            self._open().tell(trial, state=TrialState.FAIL)
            raise
        identity = identity_of(config, self._data_digest)
        trial.set_user_attr(IDENTITY_KEY, identity)
        return identity

    def _must_train(self, trial: optuna.Trial, identity: str) -> bool:
        """False where the outcome of the same settings is known or on its way; the trial is then told it."""
        for running in self._running.values():
            if running.identity == identity:
                running.followers.append(trial)
                return False
        known = self._known(identity, trial.number)
        if known is None:
            return True
        if known.state == TrialState.FAIL and self._retry.pop(identity, None) is not None:
            return True
        if known.state == TrialState.PRUNED:
            for step, value in known.intermediate_values.items():
                trial.report(value, step)
        self._open().tell(trial, known.value if known.state == TrialState.COMPLETE else None, state=known.state)
        return False

    def _known(self, identity: str, number: int) -> FrozenTrial | None:
        trials = [trial for trial in self._by_identity(_PREFERENCE).get(identity, []) if trial.number != number]
        return min(trials, key=lambda trial: _PREFERENCE.index(trial.state), default=None)

    def _note(self, running: _Running, result: Mapping[str, Any]) -> None:
        value, step = result.get(self._metric), result.get("training_iteration")
        if _is_finite(value) and isinstance(step, int) and step not in running.steps:
            running.steps.add(step)
            for trial in (running.trial, *running.followers):
                trial.report(float(value), step)

    def _tell_failed(self, running: _Running, reason: str) -> None:
        for trial in (running.trial, *running.followers):
            trial.set_user_attr(FAILURE_KEY, reason)
        self._tell_all(running, TrialState.FAIL)

    def _tell_all(self, running: _Running, state: TrialState, value: float | None = None) -> None:
        for trial in (running.trial, *running.followers):
            self._open().tell(trial, value, state=state)


def _sampler(search: Search, n_existing: int) -> BaseSampler:
    """The study's sampler, seeded by what there is: with the same seed a resumed search would repeat its start."""
    seed = int(np.random.SeedSequence([search.seed, n_existing]).generate_state(1)[0])
    if search.sampler == "random":
        return RandomSampler(seed=seed)
    # Trials run side by side: the constant liar keeps them from proposing the same.
    return TPESampler(seed=seed, n_startup_trials=search.n_startup_trials, constant_liar=True)


def _is_finite(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and math.isfinite(value)
