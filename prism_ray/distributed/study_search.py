"""A launch of a study of kind `search`: proposals first, then its finalists beside the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prism_ray.config import RunConfig
from prism_ray.distributed.launch import Launch, StudyOutcome, TaskMaker
from prism_ray.distributed.pruning import Pruning
from prism_ray.distributed.searcher import StudySearcher
from prism_ray.distributed.study_ablation import run_fixed, track_found
from prism_ray.distributed.trial import TrialTask
from prism_ray.distributed.warm_start import warm_starts
from prism_ray.study.designs import WARM_ARM, proposed_trial
from prism_ray.study.finalists import choose_finalists, finalist_trials
from prism_ray.study.search_spec import Search
from prism_ray.study.spec import Study
from prism_ray.training.record import read_record


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
    location = launch.settings.search_database or launch.folder / "optuna.journal"
    searcher = StudySearcher(study, location, launch.maker.data_digest)
    source = ProposedTasks(study, launch.maker, _pruning(launch, searcher))
    if search.warm_start:
        _warm_start(launch, searcher)
    n_found = searcher.n_complete
    launch.progress.begin(search.n_trials, n_found)
    track_found(launch, _finished(source, searcher))
    if n_found < search.n_trials:
        launch.run(searcher, lambda maker: replace(source, maker=maker), _extremes(study), any_between=True)
    counts = searcher.counts()
    warm = f", and {counts.warm_starts} known before" if counts.warm_starts else ""
    launch.progress.remark(
        f"search: {counts.complete} complete, {counts.pruned} pruned, {counts.failed} failed of "
        f"{search.n_trials} proposals{warm}"
    )
    outcome = launch.outcome([source.task({"values": values}) for values in searcher.proposals()], n_found)
    if search.finalists is None or outcome.left:
        return outcome
    return _together(outcome, _run_finalists(launch, searcher))


def _run_finalists(launch: Launch, searcher: StudySearcher) -> StudyOutcome:
    """Train the chosen settings and the baseline over the finalists' seeds; what is finished is kept."""
    study = launch.study
    chosen = choose_finalists(study, searcher.outcomes())
    trials = finalist_trials(study, chosen)
    arms = tuple(dict.fromkeys(trial.arm for trial in trials))
    launch.tracker.open_study(replace(launch.header, arms=arms), {})
    launch.progress.remark(
        f"finalists: {len(chosen)} of {len(searcher.outcomes())} complete proposals and the baseline, "
        f"{len(trials)} trials"
    )
    return run_fixed(launch, trials)


def _warm_start(launch: Launch, searcher: StudySearcher) -> None:
    study = launch.study
    folder = launch.settings.storage / "trials"
    known = searcher.warm_start(warm_starts(study, folder, launch.maker.data_digest))
    tasks = [launch.maker.make(proposed_trial(study, values, WARM_ARM)) for values in known]
    track_found(launch, tasks)
    launch.progress.remark(f"warm start: {len(known)} finished trials of the workspace lie in the space")


def _pruning(launch: Launch, searcher: StudySearcher) -> Pruning | None:
    rule = _search(launch.study).pruner
    if rule is None:
        return None
    name = searcher.optuna_study_name
    return Pruning(name, rule, launch.study.objective, launch.folder / "rungs" / name)


def _finished(source: ProposedTasks, searcher: StudySearcher) -> list[TrialTask]:
    tasks = [source.task({"values": values}) for values in searcher.proposals()]
    return [task for task in tasks if read_record(task.folder) is not None]


def _extremes(study: Study) -> list[RunConfig]:
    """Runs that between them read all that any proposal reads."""
    return [study.config_at(config) for config in study.search_extremes()]


def _together(proposals: StudyOutcome, finalists: StudyOutcome) -> StudyOutcome:
    return replace(
        proposals,
        n_found=proposals.n_found + finalists.n_found,
        n_finished=proposals.n_finished + finalists.n_finished,
        failures={**proposals.failures, **finalists.failures},
        left=(*proposals.left, *finalists.left),
    )


def _search(study: Study) -> Search:
    assert study.search is not None
    return study.search
