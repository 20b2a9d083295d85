"""What a process knows of the Ray job that it is the driver of, and of who submitted it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform

import prism_ray
from prism_ray.errors import FaultList, InputError

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray's job manager for the command of a submitted job, and for nothing else (Ray's job_supervisor.py)."""
SUBMITTER_VARIABLE = "PRISM_RAY_SUBMITTED_WITH"
"""Versions of the environment that `prism-ray submit` ran in, as JSON."""
DATABASE_VARIABLE = "PRISM_RAY_SEARCH_DATABASE"
"""Searcher's database, where its address holds a password that no command line should show."""


def in_job() -> bool:
    """True in the command of `ray job submit`: its working folder is a copy that Ray deletes."""
    return JOB_VARIABLE in os.environ


def job_env_vars() -> dict[str, str]:
    """Environment variables that the submitter gave to all processes of this job; empty outside a job."""
    config = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    return dict((config.get("runtime_env") or {}).get("env_vars") or {})


def submitter_variables() -> dict[str, str]:
    """The variable that tells a job with what it was submitted."""
    return {SUBMITTER_VARIABLE: json.dumps(_versions())}


def check_submitter() -> None:
    """Refuse to run what was checked and planned with other versions.

    Raises:
        InputError: naming both.
    """
    faults, here = FaultList(), _versions()
    for name, there in json.loads(os.environ.get(SUBMITTER_VARIABLE, "{}")).items():
        if here.get(name) != there:
            faults.add(
                "this cluster",
                f"runs the job with {name} {here.get(name)}, and it was submitted with {name} {there}",
                f"submit from a clone of the same version, or install {name} {there} on every node",
            )
    faults.raise_if_any(InputError)


def _versions() -> dict[str, str]:
    """Versions that decide numbers, or whether processes understand each other."""
    return {
        "prism-ray": prism_ray.__version__,
        "Ray": importlib.metadata.version("ray"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }
