"""Studies: what is asked, which settings answer it, and the trials that follow. Knows no engine."""

from prism_ray.study.designs import expand, proposed_trial
from prism_ray.study.finalists import choose_finalists, finalist_trials
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.identity import RESULTS_VERSION, trial_id
from prism_ray.study.load import find_study, load_study, study_folders
from prism_ray.study.search_spec import Finalists, Objective, Search
from prism_ray.study.space import Choice, Condition, Dimension, Domain, IntRange, LogUniform, Subset, Uniform
from prism_ray.study.spec import Arm, Budget, Study, Trial
from prism_ray.study.store_check import StoreContents, check_against_store

__all__ = [
    "RESULTS_VERSION",
    "Arm",
    "Budget",
    "Choice",
    "Condition",
    "Dimension",
    "Domain",
    "Finalists",
    "IntRange",
    "LogUniform",
    "Objective",
    "Search",
    "StoreContents",
    "Study",
    "Subset",
    "SuccessiveHalving",
    "Trial",
    "Uniform",
    "check_against_store",
    "choose_finalists",
    "expand",
    "finalist_trials",
    "find_study",
    "load_study",
    "proposed_trial",
    "study_folders",
    "trial_id",
]
