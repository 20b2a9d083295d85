"""What a process knows of the Ray job that it is the driver of."""

from __future__ import annotations

import json
import os

JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray's job manager for the command of a submitted job, and for nothing else (Ray's job_supervisor.py)."""


def in_job() -> bool:
    """True in the command of `ray job submit`: its working folder is a copy that Ray deletes."""
    return JOB_VARIABLE in os.environ


def job_env_vars() -> dict[str, str]:
    """Environment variables that the submitter gave to all processes of this job; empty outside a job."""
    config = json.loads(os.environ.get(JOB_VARIABLE, "{}"))
    return dict((config.get("runtime_env") or {}).get("env_vars") or {})
