"""A cluster as its dashboard shows it to who submits: versions, resources, and the jobs of studies.

Ray's own client speaks to it (`JobSubmissionClient`), with the token that Ray finds in the environment; what it
raises is said here in words, and never with the token.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.submission_address import check_reachable
from prism_ray.errors import FaultList, InputError, did_you_mean

STUDY_KEY = "prism.study"
DIGEST_KEY = "prism.study_digest"
STORAGE_KEY = "prism.storage"
_MOST_NODES = 10_000
_ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


@dataclass(frozen=True)
class ClusterFacts:
    """What a cluster is.

    Attributes:
        ray_version, python_version: of its head.
        resources: of its living nodes together.
        n_nodes: living nodes.
        object_stores: size of the object store, in bytes, of each node that runs trials, by its address.
    """

    ray_version: str
    python_version: str
    resources: Mapping[str, float]
    n_nodes: int
    object_stores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyJob:
    """A job that runs, or ran, a study.

    Attributes:
        id: submission id.
        study, study_digest, storage: as it was submitted; empty texts for a job of another origin.
        status: `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`.
        message: Ray's words about the status.
        entrypoint: its command.
        started_ms, ended_ms: when, milliseconds since 1970; None where it has not.
        driver_code: exit code of its command; None where it has none.
    """

    id: str
    study: str
    study_digest: str
    storage: str
    status: str
    message: str
    entrypoint: str
    started_ms: int | None
    ended_ms: int | None
    driver_code: int | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.status in _ENDED

    @property
    def exit_code(self) -> int:
        """That of the study: of its command, 130 where it was stopped, 1 where Ray lost it."""
        if self.driver_code is not None:
            return self.driver_code
        return {"SUCCEEDED": 0, "STOPPED": 130}.get(self.status, 1)


class JobCluster:
    """The jobs of the cluster behind a dashboard's address.

    Raises:
        InputError: nobody answers there, it is no Ray dashboard, or it does not take the token.
    """

    def __init__(self, address: str) -> None:
        check_reachable(address)
        self.address = address.rstrip("/")
        with self._in_words():
            self._client = JobSubmissionClient(self.address)

    def facts(self) -> ClusterFacts:
        """Versions and resources."""
        with self._in_words():
            versions = self._get("/api/v0/cluster_metadata")["data"]
            nodes = self._get(f"/api/v0/nodes?detail=1&limit={_MOST_NODES}")["data"]["result"]["result"]
            resources: Counter[str] = Counter()
            living = [node for node in nodes if node["state"] == "ALIVE"]
            for node in living:
                resources.update(node["resources_total"])
            stores = {
                str(node["node_ip"]): float(node["resources_total"].get("object_store_memory", 0.0))
                for node in living
                if node["resources_total"].get("CPU")
            }
            return ClusterFacts(versions["rayVersion"], versions["pythonVersion"], dict(resources), len(living), stores)

    def jobs(self) -> list[StudyJob]:
        """All submitted jobs, the latest last."""
        with self._in_words():
            found = [_study_job(job) for job in self._client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: (job.started_ms or 0, job.id))

    def job(self, job_id: str) -> StudyJob:
        """One job, as it is now."""
        with self._in_words():
            return _study_job(self._client.get_job_info(job_id))

    def submit(self, job_id: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
        """Upload the working folder, where the cluster lacks it, and start the job; its id."""
        with self._in_words():
            return str(
                self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job_id,
                    runtime_env=dict(runtime_env),
                    metadata=dict(metadata),
                )
            )

    def stop(self, job_id: str) -> None:
        """Ask a job to end."""
        with self._in_words():
            self._client.stop_job(job_id)

    def logs(self, job_id: str) -> str:
        """What a job has printed."""
        with self._in_words():
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, tell: Callable[[str], None]) -> StudyJob:
        """Tell what a job has printed and prints, until it has ended."""

        async def tail() -> None:
            async for lines in self._client.tail_job_logs(job_id):
                tell(lines)

        with self._in_words():
            asyncio.run(tail())
        return self.job(job_id)

    def _get(self, endpoint: str) -> dict[str, Any]:
        """Answer of an endpoint that Ray's client has no method for."""
        answer = self._client._do_request("GET", endpoint)
        if answer.status_code != 200:
            raise RuntimeError(f"{endpoint} answers with status {answer.status_code}")
        return dict(answer.json())

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        faults, where = FaultList(), f"Ray cluster {self.address}"
        # Ray's client tells of every ignore file that it reads.
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        except ray.exceptions.AuthenticationError:
            faults.add(
                where,
                "does not let this process in: its token is missing or wrong",
                "give it by RAY_AUTH_TOKEN_PATH, RAY_AUTH_TOKEN or ~/.ray/auth_token, with RAY_AUTH_MODE=token "
                f"(it is {os.environ.get('RAY_AUTH_MODE', 'not set')})",
            )
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, ray.exceptions.RayError) as problem:
            words = str(problem).strip() or type(problem).__name__
            faults.add(where, f"does not answer as a Ray dashboard does ({words.splitlines()[0][:300]})")
        finally:
            logging.disable(before)
        faults.raise_if_any(InputError)


def _study_job(job: JobDetails) -> StudyJob:
    metadata = job.metadata or {}
    return StudyJob(
        id=str(job.submission_id),
        study=metadata.get(STUDY_KEY, ""),
        study_digest=metadata.get(DIGEST_KEY, ""),
        storage=metadata.get(STORAGE_KEY, ""),
        status=str(job.status.value),
        message=job.message or "",
        entrypoint=job.entrypoint,
        started_ms=job.start_time,
        ended_ms=job.end_time,
        driver_code=job.driver_exit_code,
    )


def find_job(cluster: JobCluster, study: str, storage: str | None = None) -> StudyJob:
    """The latest job of a study, one that has not ended before all others.

    Args:
        cluster: where it was submitted.
        study: its name.
        storage: folder of the workspace; None for any.

    Raises:
        InputError: there is none, or several run and the workspace is not said.
    """
    jobs = cluster.jobs()
    found = [job for job in jobs if job.study == study and storage in (None, job.storage)]
    living = [job for job in found if not job.has_ended]
    faults = FaultList()
    if not found:
        known = {job.study for job in jobs if job.study}
        fix = did_you_mean(study, known) if known else "no study was submitted to it"
        faults.add(f"Ray cluster {cluster.address}", f"has no job of a study {study!r}", fix)
    if len(living) > 1:
        folders = ", ".join(sorted(job.storage for job in living))
        faults.add(f"study {study}", f"runs {len(living)} times", f"say which by --storage: {folders}")
    faults.raise_if_any(InputError)
    return (living or found)[-1]


def check_cluster(facts: ClusterFacts, address: str, each: TrialResources) -> None:
    """Refuse a cluster of other versions, or one that cannot hold a trial.

    Raises:
        InputError: with all reasons.
    """
    faults, where = FaultList(), f"Ray cluster {address}"
    for name, there, here in (
        ("Ray", facts.ray_version, ray.__version__),
        ("Python", _minor(facts.python_version), _minor(platform.python_version())),
    ):
        if there != here:
            fix = f"submit from an environment with {name} {there}, or start the cluster with {name} {here}"
            faults.add(where, f"has {name} {there}, and this environment has {name} {here}", fix)
    for name, per_worker in (("CPU", float(each.cpus_per_worker)), ("GPU", each.gpus_per_worker)):
        needed, has = each.n_workers * per_worker, facts.resources.get(name, 0.0)
        if has < needed:
            faults.add(
                where,
                f"has {has:g} {name}s on {facts.n_nodes} nodes, and a trial needs {needed:g}",
                f"start nodes with {name}s, or ask for fewer (--workers, --{name.lower()}s-per-worker)",
            )
    faults.raise_if_any(InputError)


def _minor(version: str) -> str:
    """`3.11` of `3.11.7`: what a driver and a cluster must have in common."""
    return ".".join(version.split(".")[:2])
