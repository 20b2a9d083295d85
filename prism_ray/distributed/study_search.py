"""A launch of a study of kind `search`: proposals first, then its finalists beside the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prism_ray.distributed.closing import tracker_may_be_away
from prism_ray.distributed.launch import Launch, StudyOutcome, TaskMaker
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.pruning import Pruning
from prism_ray.distributed.searcher import StudySearcher
from prism_ray.distributed.study_ablation import run_fixed
from prism_ray.distributed.trial import TrialTask
from prism_ray.distributed.warm_start import warm_starts
from prism_ray.distributed.workspace import TRIALS_NAME
from prism_ray.study.designs import WARM_ARM, proposed_trial
from prism_ray.study.extremes import search_runs
from prism_ray.study.finalists import choose_finalists, finalist_trials
from prism_ray.study.search_spec import Search
from prism_ray.study.spec import Study

JOURNAL_NAME = "optuna.journal"
LOCK_SUFFIX = ".lock"
"""Of Optuna's lock beside its journal."""


@dataclass(frozen=True)
class ProposedTasks:
    """The trials of a search: a proposal holds the values of the searched settings.

    Attributes:
        study: a study with a search.
        maker: makes its tasks.
        pruning: how they are judged before their end; None for not at all.
    """

    study: Study
    maker: TaskMaker
    pruning: Pruning | None = None

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial of the proposed values."""
        return replace(self.maker.make(proposed_trial(self.study, proposal["values"])), pruning=self.pruning)


def run_search(launch: Launch) -> StudyOutcome:
    """Run what is missing of a search: its proposals, and when all of them have ended its finalists."""
    study, search = launch.study, _search(launch.study)
    launch.folder.mkdir(parents=True, exist_ok=True)
    searcher = StudySearcher(study, _database(launch), launch.maker.data_digest)
    source = ProposedTasks(study, launch.maker, _pruning(launch, searcher))
    if search.warm_start:
        _warm_start(launch, searcher)
    n_found = searcher.n_complete
    proposed = _proposed(source, searcher)
    launch.track_finished(proposed)
    launch.begin(proposed, search.n_trials, n_found, n_to_come=study.n_trials - search.n_trials)
    failed: dict[str, str] = {}
    if n_found < search.n_trials:
        failed = launch.run(
            searcher,
            lambda maker: replace(source, maker=maker),
            search_runs(study),
            known=proposed,
            n_left=search.n_trials - n_found,
            any_between=True,
        )
    counts = searcher.counts()
    warm = f", and {counts.warm_starts} known before" if counts.warm_starts else ""
    launch.progress.remark(
        f"search: {counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed of "
        f"{search.n_trials} proposals{warm}"
    )
    proposed = _proposed(source, searcher)
    launch.track_finished(proposed)
    outcome = launch.outcome(proposed, n_found, failed, n_planned=study.n_trials)
    n_ended = outcome.n_finished + outcome.n_pruned + len(outcome.failures)
    if search.finalists is None or outcome.stop is not None or n_ended < len(proposed):
        return outcome
    return _together(outcome, _run_finalists(launch, searcher, proposed))


def _run_finalists(launch: Launch, searcher: StudySearcher, proposed: Sequence[TrialTask]) -> StudyOutcome:
    """Train the chosen settings and the baseline over the finalists' seeds; what is finished is kept."""
    study = launch.study
    chosen = choose_finalists(study, searcher.outcomes())
    trials = finalist_trials(study, chosen)
    arms = tuple(dict.fromkeys(trial.arm for trial in trials))
    with tracker_may_be_away(launch.untold):
        launch.tracker.open_study(replace(launch.header, arms=arms, n_trials=len(proposed) + len(trials)), {})
    launch.progress.remark(
        f"finalists: {len(chosen)} of {len(searcher.outcomes())} complete proposals and the baseline, "
        f"{len(trials)} trials"
    )
    return run_fixed(launch, trials, proposed)


def _warm_start(launch: Launch, searcher: StudySearcher) -> None:
    study = launch.study
    folder = launch.settings.storage / TRIALS_NAME
    known = searcher.warm_start(warm_starts(study, folder, launch.maker.data_digest))
    tasks = [launch.maker.make(proposed_trial(study, values, WARM_ARM)) for values in known]
    launch.track_finished(tasks)
    launch.progress.remark(f"warm start: {len(known)} finished trials of the workspace lie in the space")


def _pruning(launch: Launch, searcher: StudySearcher) -> Pruning | None:
    rule = _search(launch.study).pruner
    if rule is None:
        return None
    name = searcher.optuna_study_name
    return Pruning(name, rule, launch.study.objective, launch.folder / "rungs" / name)


def search_database(settings: StudySettings, study: str) -> str | Path:
    """Where the proposals of a study are: the database that was asked for, or a journal in the study's folder."""
    return settings.search_database or settings.study_folder(study) / JOURNAL_NAME


def _database(launch: Launch) -> str | Path:
    """The searcher's database, for the only driver of the study."""
    database = search_database(launch.settings, launch.study.name)
    if isinstance(database, Path):
        # This is the only driver: a lock that is there was left by one that was killed, and Optuna would wait for it.
        Path(f"{database}{LOCK_SUFFIX}").unlink(missing_ok=True)
    return database


def _proposed(source: ProposedTasks, searcher: StudySearcher) -> list[TrialTask]:
    """Trials of all proposals so far."""
    return [source.task({"values": values}) for values in searcher.proposals()]


def _together(proposals: StudyOutcome, finalists: StudyOutcome) -> StudyOutcome:
    return replace(
        proposals,
        n_trials=proposals.n_trials + finalists.n_trials,
        n_found=proposals.n_found + finalists.n_found,
        n_finished=proposals.n_finished + finalists.n_finished,
        failures={**proposals.failures, **finalists.failures},
        repeating=(*proposals.repeating, *finalists.repeating),
        stop=finalists.stop,
    )


def _search(study: Study) -> Search:
    assert study.search is not None
    return study.search
