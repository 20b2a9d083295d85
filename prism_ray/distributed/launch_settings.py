"""Where and how a study runs. Loads none of what runs it, which takes seconds: who submits a study says this, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from prism_ray.distributed.backend import Backend
from prism_ray.distributed.loading_choice import LoadingAsked
from prism_ray.distributed.plan_facts import PlanSettings
from prism_ray.distributed.ray_backend import RayBackend
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.retries import RetryPolicy
from prism_ray.distributed.workspace import study_folder
from prism_ray.store import StorePlace


@dataclass(frozen=True)
class StudySettings:
    """Where and how a study runs; none of it changes a number.

    Attributes:
        store: feature store, in a folder or in a bucket that every node reads.
        storage: folder of the workspace, absolute, on storage that every node sees.
        tracking_uri: MLflow store, absolute.
        resources: what each trial takes.
        max_concurrent: trials at once; None for as many as fit.
        address: of a running Ray cluster; None for `RAY_ADDRESS`, else a local one.
        loading: how trials get their genes; `auto` to choose by their size.
        source_folder: folder whose git commit the runs carry.
        command: how to repeat the study.
        backend: what runs the trials.
        study_file: file that the study is from, where it was read from a copy.
        retry: how often a trial is started again whose process died.
        search_database: searcher's database, see `open_storage`; None for a journal in the study's folder.
    """

    store: StorePlace
    storage: Path
    tracking_uri: str
    resources: TrialResources = field(default_factory=TrialResources)
    max_concurrent: int | None = None
    address: str | None = None
    loading: LoadingAsked = "auto"
    source_folder: Path = field(default_factory=Path.cwd)
    command: str = ""
    backend: Backend = field(default_factory=RayBackend)
    study_file: Path | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    search_database: str | None = None

    def study_folder(self, study: str) -> Path:
        """Folder of a study in the workspace, by its name."""
        return study_folder(self.storage, study)

    def plan(self) -> PlanSettings:
        """What a plan of the launch is made with."""
        return PlanSettings(
            self.store,
            self.storage,
            self.resources,
            self.max_concurrent,
            tracking_uri=self.tracking_uri,
            loading=self.loading,
        )
