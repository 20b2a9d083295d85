"""A launch of a study of kind `search`: what to train next follows from what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from prism_ray.distributed.launch import Launch, StudyOutcome, TaskMaker
from prism_ray.distributed.searcher import StudySearcher
from prism_ray.distributed.trial import TrialTask
from prism_ray.study.designs import proposed_trial
from prism_ray.study.spec import Study


@dataclass(frozen=True)
class ProposedTasks:
    """The trials of a search: a proposal holds the values of the searched settings."""

    study: Study
    maker: TaskMaker

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial of the proposed values."""
        return self.maker.make(proposed_trial(self.study, proposal["values"]))


def run_search(launch: Launch) -> StudyOutcome:
    """Run what is missing of a search."""
    study = launch.study
    assert study.search is not None
    launch.folder.mkdir(parents=True, exist_ok=True)
    searcher = StudySearcher(study, launch.folder / "optuna.journal", launch.maker.data_digest)
    n_found = searcher.n_complete
    launch.progress.begin(study.search.n_trials, n_found)
    if n_found < study.search.n_trials:
        launch.run(
            searcher,
            lambda maker: ProposedTasks(study, maker),
            [
                study.with_place(config, study.seeds[0], fold, cell_type)
                for config, cell_type, fold in product(study.search_extremes(), study.cell_types, study.folds)
            ],
            any_between=True,
        )
    source = ProposedTasks(study, launch.maker)
    return launch.outcome([source.task({"values": values}) for values in searcher.proposals()], n_found)
