"""The searcher of a study: Optuna proposes, Ray Tune runs, and the database holds the only truth.

Ours instead of Ray's OptunaSearch, which tells Optuna that stopped trials were completed, leaves trials
without a number running for ever, mixes the studies of one database, and repeats its first proposals when
it is resumed.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, TypeGuard

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from prism_ray.distributed.search_database import IDENTITY_KEY, SETTLED, SearchCounts, SearchDatabase
from prism_ray.distributed.spaces import ask_values
from prism_ray.distributed.warm_start import WarmStart
from prism_ray.errors import ConfigError
from prism_ray.study.finalists import Outcome
from prism_ray.study.identity import trial_id as identity_of
from prism_ray.study.space import Scalar
from prism_ray.study.spec import Study

FAILURE_KEY = "failure"
"""Key of a trial's last result: why it failed, or empty where it did not. A trial that was interrupted has none."""

PRUNED_KEY = "pruned"
"""Key of the last result of a trial that its search stopped before its end: how, in words. Other results lack it."""

CURVE_KEY = "curve"
"""Beside `PRUNED_KEY`: (steps, value) of each rung at which the trial was judged."""

_MAX_REPEATS = 50
"""Proposals in a row that were all trained before, after which a space counts as exhausted."""

_log = logging.getLogger(__name__)


@dataclass
class _Running:
    """A trial that Tune runs, and trials with the same settings that wait for its outcome."""

    trial: optuna.Trial
    identity: str
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
        super().__init__()
        self._asked = study
        self._database = SearchDatabase(study, storage, data_digest)
        self._is_open = False
        self._running: dict[str, _Running] = {}
        self._interrupted: list[FrozenTrial] = []
        self._retry: dict[str, FrozenTrial] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its searcher; connections stay behind, and the state is in the database.
        database = self._database
        return {"study": self._asked, "storage": database.location, "data_digest": database.data_digest}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def optuna_study_name(self) -> str:
        """Name in the database."""
        return self._database.name

    @property
    def n_complete(self) -> int:
        """Different settings that were proposed and have an outcome, stopped ones included, failed ones not."""
        return len(self._database.proposed(SETTLED))

    def counts(self) -> SearchCounts:
        """How the settings of the search ended so far."""
        return self._database.counts()

    def proposals(self) -> list[dict[str, Scalar]]:
        """Encoded values of all different settings proposed so far, in the order of their proposal."""
        return self._database.proposals()

    def outcomes(self) -> list[Outcome]:
        """Different settings that were trained to their end, those known before the search included."""
        return self._database.outcomes()

    def warm_start(self, found: Iterable[WarmStart]) -> list[Mapping[str, Scalar]]:
        """Tell the sampler of finished trials that it does not know; the values of all that it was told of so far."""
        self._database.add_warm_starts(found)
        return self._database.warm_start_values()

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Whether Tune leaves the objectives and the space to the study, which decides both."""
        return metric is None and mode is None and not config

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Values for a new trial, or `FINISHED`."""
        for _ in range(_MAX_REPEATS):
            trial = self._next_trial()
            if trial is None:
                return str(Searcher.FINISHED)
            values = ask_values(trial, self._database.search.space)
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
        """Nothing: a trial says all that there is to say when it ends."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna the outcome: complete, pruned (stopped before its end) or failed (error, or no number)."""
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        result = result or {}
        if not error and FAILURE_KEY not in result:
            # Ended before it could say how, for example by an interrupt: the next launch proposes it again.
            return
        reason = result.get(FAILURE_KEY) or ("its process died" if error else "")
        values: dict[str, Any] = {
            objective.metric: result.get(objective.metric) for objective in self._asked.objectives
        }
        without = [f"{metric} is {value}" for metric, value in values.items() if not _is_finite(value)]
        if reason:
            self._tell_failed(running, reason)
        elif PRUNED_KEY in result:
            for step, value in result[CURVE_KEY]:
                if _is_finite(value):
                    _report(running, int(step), float(value))
            self._tell_all(running, TrialState.PRUNED)
        elif without:
            self._tell_failed(running, "; ".join(without))
        else:
            self._tell_all(
                running, TrialState.COMPLETE, [float(value) for value in values.values() if value is not None]
            )

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
                identity = self._identity(trial, ask_values(trial, self._database.search.space))
                self._running[trial_id] = _Running(trial, identity)

    def _open(self) -> optuna.Study:
        """The search in its database, looked at when it is first used: a searcher is pickled and copied before."""
        study = self._database.optuna_study
        if not self._is_open:
            self._is_open = True
            trials = study.get_trials(deepcopy=False)
            self._interrupted = [trial for trial in trials if trial.state == TrialState.RUNNING]
            self._retry = self._database.failed()
        return study

    def _next_trial(self) -> optuna.Trial | None:
        """The next trial of Optuna: interrupted ones, then failed ones, then new ones; None at the end."""
        study = self._open()
        if self._interrupted:
            return self._adopt(self._interrupted.pop(0))
        if self._retry:
            study.enqueue_trial(next(iter(self._retry.values())).params)
            return study.ask()
        if len(self._database.proposed()) >= self._database.search.n_trials:
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
        identity = identity_of(config, self._database.data_digest)
        trial.set_user_attr(IDENTITY_KEY, identity)
        return identity

    def _must_train(self, trial: optuna.Trial, identity: str) -> bool:
        """False where the outcome of the same settings is known or on its way; the trial is then told it."""
        for running in self._running.values():
            if running.identity == identity:
                running.followers.append(trial)
                return False
        known = self._database.known(identity, trial.number)
        if known is None:
            return True
        if known.state == TrialState.FAIL and self._retry.pop(identity, None) is not None:
            return True
        if known.state == TrialState.PRUNED:
            for step, value in known.intermediate_values.items():
                trial.report(value, step)
        self._open().tell(trial, known.values if known.state == TrialState.COMPLETE else None, state=known.state)
        return False

    def _tell_failed(self, running: _Running, reason: str) -> None:
        for trial in (running.trial, *running.followers):
            trial.set_user_attr(FAILURE_KEY, reason)
        self._tell_all(running, TrialState.FAIL)

    def _tell_all(self, running: _Running, state: TrialState, values: list[float] | None = None) -> None:
        for trial in (running.trial, *running.followers):
            self._open().tell(trial, values, state=state)


def _report(running: _Running, step: int, value: float) -> None:
    for trial in (running.trial, *running.followers):
        trial.report(value, step)


def _is_finite(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and math.isfinite(value)
