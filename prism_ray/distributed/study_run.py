"""A study from its file to its finished trials: checked by this process alone first, then run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prism_ray.distributed.driver import only_driver
from prism_ray.distributed.launch_checks import check_launch
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.networks import network_lines
from prism_ray.distributed.progress import Progress
from prism_ray.distributed.stop_request import clear_stop
from prism_ray.study.spec import Study

if TYPE_CHECKING:
    from prism_ray.distributed.launch import StudyOutcome


def run_study(study: Study, settings: StudySettings, progress: Progress) -> StudyOutcome:
    """Run what is missing of a study; trials that have a record are not run again.

    SIGINT or SIGTERM to a process whose main thread this is, or a request in the study's folder (`request_stop`), ends
    it in an orderly way: running trials keep their checkpoints, and the next launch goes on from them.

    Raises:
        BusyError: another process runs the study.
        PrismRayError: anything that makes the study impossible, before a trial starts.
    """
    store = check_launch(study, settings)
    progress.announce(network_lines(study, store))
    folder = settings.study_folder(study.name)
    with only_driver(folder, study.name):
        clear_stop(folder)
        # Ray Tune, PyTorch and MLflow, which take seconds to load: a study that cannot run is refused without them.
        from prism_ray.distributed.study_tracked import run_tracked

        return run_tracked(study, settings, progress, store)
