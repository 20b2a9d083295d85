"""Which source a run was made from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

COMMIT_VARIABLE = "PRISM_RAY_GIT_COMMIT"
DIRTY_VARIABLE = "PRISM_RAY_GIT_DIRTY"


def source_tags(folder: Path) -> dict[str, str]:
    """Tags `prism.git_commit` and `prism.git_dirty` of a folder; empty where no git repository is known.

    A job's copy of a working folder has no `.git`, so what the submitter wrote into `PRISM_RAY_GIT_COMMIT` and
    `PRISM_RAY_GIT_DIRTY` comes first.
    """
    commit = os.environ.get(COMMIT_VARIABLE)
    if commit:
        return {"prism.git_commit": commit, "prism.git_dirty": os.environ.get(DIRTY_VARIABLE, "unknown")}
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    dirty = "unknown" if changed is None else str(bool(changed)).lower()
    return {"prism.git_commit": commit, "prism.git_dirty": dirty}


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where git or the repository is missing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
