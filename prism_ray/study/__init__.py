"""Studies: what is asked, which settings answer it, and the trials that follow. Knows no engine."""

from prism_ray.study.designs import expand, proposed_trial
from prism_ray.study.identity import RESULTS_VERSION, trial_id
from prism_ray.study.load import find_study, load_study, study_folders
from prism_ray.study.space import Choice, Condition, Dimension, Domain, IntRange, LogUniform, Subset, Uniform
from prism_ray.study.spec import Arm, Budget, Objective, Search, Study, Trial
from prism_ray.study.store_check import StoreContents, check_against_store

__all__ = [
    "RESULTS_VERSION",
    "Arm",
    "Budget",
    "Choice",
    "Condition",
    "Dimension",
    "Domain",
    "IntRange",
    "LogUniform",
    "Objective",
    "Search",
    "StoreContents",
    "Study",
    "Subset",
    "Trial",
    "Uniform",
    "check_against_store",
    "expand",
    "find_study",
    "load_study",
    "proposed_trial",
    "study_folders",
    "trial_id",
]
