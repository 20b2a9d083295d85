"""What a launch on a real Ray cluster refuses before anything is written; how it runs is in test_backends.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.trial import TrialTask
from prism_ray.errors import ConfigError, InputError
from prism_ray.study.designs import expand
from prism_ray.study.spec import Study
from tests.distributed.conftest import TINY, Told

pytestmark = pytest.mark.ray
MakeStudy = Callable[..., Study]


def test_what_cannot_run_is_refused_before_anything_is_written(make_study: MakeStudy, settings: StudySettings) -> None:
    study = make_study(baseline={**TINY, "data.signals": ["h3k27", "dnase"], "data.window_bp": 100_000})
    with pytest.raises(ConfigError) as refused:
        run_study(study, settings, Told())
    assert "the signal 'h3k27' is not in the store" in str(refused.value)
    assert "Did you mean 'h3k27ac'?" in str(refused.value)
    assert "100000 bp, but the store has 8000 bp" in str(refused.value)
    assert not settings.storage.exists()


def test_more_than_the_cluster_has_is_refused(make_study: MakeStudy, settings: StudySettings) -> None:
    for resources, what in (
        (TrialResources(gpus_per_worker=1.0), "1 GPUs"),
        (TrialResources(n_workers=8), "8 CPUs"),
    ):
        with pytest.raises(InputError, match=f"a run needs {what}"):
            run_study(make_study(), dataclasses.replace(settings, resources=resources), Told())
    with pytest.raises(ConfigError, match="8 genes a step do not divide among 3 workers"):
        run_study(make_study(), dataclasses.replace(settings, resources=TrialResources(n_workers=3)), Told())


def test_a_task_is_plain_data(make_study: MakeStudy, settings: StudySettings) -> None:
    import pickle

    (trial, *_) = expand(make_study())
    task = TrialTask("s", trial.arm, "0" * 16, trial.config, settings.store, "d", settings.storage)
    assert pickle.loads(pickle.dumps(task)) == task
