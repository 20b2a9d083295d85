"""A study as a job of a cluster: its command, its environment, and an id that two submissions of it share."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prism_ray.distributed.jobs import DATABASE_VARIABLE, submitter_variables
from prism_ray.distributed.submission_cluster import DIGEST_KEY, STORAGE_KEY, STUDY_KEY, JobCluster, StudyJob
from prism_ray.distributed.submission_package import EXCLUDES
from prism_ray.errors import FaultList, InputError
from prism_ray.study.spec import Study
from prism_ray.tracking import redact
from prism_ray.tracking.source_state import source_variables

_STOP_WAIT_S = 300
"""Seconds between SIGTERM and SIGKILL of a job that is stopped; Ray's own three are too few for a checkpoint."""
_ATTEMPTS = 3


@dataclass(frozen=True)
class Submission:
    """A study to be submitted.

    Attributes:
        study: what is run.
        flags: of `prism-ray run`, without addresses that hold credentials.
        storage: folder of the workspace on the cluster.
        folder: the job's working folder here.
        tracking_uri, search_database: addresses, credentials included; None where not given.
        given: variables of the submitter's environment that the job gets, by name.
    """

    study: Study
    flags: Sequence[str]
    storage: Path
    folder: Path
    tracking_uri: str | None = None
    search_database: str | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def entrypoint(self) -> str:
        """Command of the job. Everybody who sees the dashboard reads it: it holds no credentials."""
        command = ["prism-ray", "run", *self.flags]
        for flag, address in (("--tracking-uri", self.tracking_uri), ("--search-database", self.search_database)):
            if address is not None and not _is_secret(address):
                command += [flag, address]
        return shlex.join(command)

    @property
    def env_vars(self) -> dict[str, str]:
        """Environment of the job: of which source and versions it is, and addresses that hold credentials."""
        secret = {"MLFLOW_TRACKING_URI": self.tracking_uri, DATABASE_VARIABLE: self.search_database}
        return {
            **source_variables(self.folder),
            **submitter_variables(),
            "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
            **{name: address for name, address in secret.items() if address is not None and _is_secret(address)},
            **self.given,
        }

    @property
    def metadata(self) -> dict[str, str]:
        """What the job is found by; holds no credentials."""
        return {
            STUDY_KEY: self.study.name,
            DIGEST_KEY: self.study.digest(),
            STORAGE_KEY: str(self.storage),
        }

    @property
    def id_stem(self) -> str:
        """Beginning of the ids of all jobs of this study in this workspace."""
        digest = hashlib.sha256(f"{self.study.name}\n{self.storage}".encode()).hexdigest()[:10]
        return f"prism-{re.sub(r'[^A-Za-z0-9_.-]', '-', self.study.name)}-{digest}"


@dataclass(frozen=True)
class Submitted:
    """What became of a submission.

    Attributes:
        job: that runs the study.
        is_joined: whether it was there before.
    """

    job: StudyJob
    is_joined: bool


def join_or_submit(cluster: JobCluster, submission: Submission) -> Submitted:
    """Submit a study, or find the job that runs it already.

    Raises:
        InputError: another study of that name runs in the workspace, or the cluster refuses the job.
    """
    for attempt in range(_ATTEMPTS):
        earlier = [job for job in cluster.jobs() if job.id.rpartition("-")[0] == submission.id_stem]
        living = next((job for job in reversed(earlier) if not job.has_ended), None)
        if living is not None:
            _refuse_other(living, submission)
            return Submitted(living, is_joined=True)
        number = 1 + max((int(job.id.rpartition("-")[2]) for job in earlier), default=0)
        job_id = f"{submission.id_stem}-{number}"
        environment = {
            "working_dir": str(submission.folder),
            "excludes": list(EXCLUDES),
            "env_vars": submission.env_vars,
        }
        try:
            cluster.submit(job_id, submission.entrypoint, environment, submission.metadata)
        except InputError:
            # Somebody may have submitted the same study in this moment, by the same id: then that job is joined.
            if attempt + 1 == _ATTEMPTS or all(job.id != job_id for job in cluster.jobs()):
                raise
            continue
        return Submitted(cluster.job(job_id), is_joined=False)
    raise AssertionError("the last attempt returns or raises")


def _refuse_other(job: StudyJob, submission: Submission) -> None:
    faults = FaultList()
    if job.study_digest != submission.study.digest():
        faults.add(
            f"study {submission.study.name}",
            f"is run by job {job.id} as another study (digest {job.study_digest[:12]}, this one's is "
            f"{submission.study.digest()[:12]})",
            f"wait for it, end it (prism-ray cancel {submission.study.name} --address ...), or give this file "
            "another name or another --storage",
        )
    faults.raise_if_any(InputError)


def _is_secret(address: str) -> bool:
    return redact(address) != address
