"""Which source a run was made from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import subprocess
import zlib
from pathlib import Path

COMMIT_VARIABLE = "PRISM_RAY_GIT_COMMIT"
DIRTY_VARIABLE = "PRISM_RAY_GIT_DIRTY"
DIFF_VARIABLE = "PRISM_RAY_GIT_DIFF"
"""Changes beside the commit: the text of `git diff`, compressed (zlib) and in base 64."""
MOST_DIFF_BYTES = 48 * 1024
"""Longest value of that variable: Linux takes 128 KiB a variable, and Ray puts all of a job's into one of its own."""


def source_tags(folder: Path) -> dict[str, str]:
    """Tags `prism.git_commit`, `prism.git_dirty` and, of changed files, `prism.git_diff_sha256` of a folder.

    Empty where no git repository is known. A job's copy of a working folder has no `.git`, so what the submitter
    wrote into `PRISM_RAY_GIT_COMMIT`, `PRISM_RAY_GIT_DIRTY` and `PRISM_RAY_GIT_DIFF` comes first.
    """
    commit = os.environ.get(COMMIT_VARIABLE)
    if commit:
        tags = {"prism.git_commit": commit, "prism.git_dirty": os.environ.get(DIRTY_VARIABLE, "unknown")}
    else:
        commit = (_git(folder, "rev-parse", "HEAD") or "").strip()
        if not commit:
            return {}
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        dirty = "unknown" if changed is None else str(bool(changed)).lower()
        tags = {"prism.git_commit": commit, "prism.git_dirty": dirty}
    diff = source_diff(folder)
    return {**tags, "prism.git_diff_sha256": hashlib.sha256(diff.encode()).hexdigest()} if diff else tags


def source_diff(folder: Path) -> str:
    """Changes of a folder's tracked files beside its commit, as `git diff` writes them; empty where none are known."""
    if os.environ.get(COMMIT_VARIABLE):
        try:
            packed = base64.b64decode(os.environ.get(DIFF_VARIABLE, ""), validate=True)
            return zlib.decompress(packed).decode() if packed else ""
        except (binascii.Error, zlib.error, UnicodeDecodeError):
            return ""
    return _git(folder, "diff", "--no-color", "--no-ext-diff", "HEAD") or ""


def source_variables(folder: Path) -> dict[str, str]:
    """Variables that tell a job the source of the folder it was submitted from; see `source_tags`.

    A diff that is too long is left out, which `left_out_diff` says.
    """
    tags = source_tags(folder)
    if not tags:
        return {}
    variables = {COMMIT_VARIABLE: tags["prism.git_commit"], DIRTY_VARIABLE: tags["prism.git_dirty"]}
    packed = _packed(source_diff(folder))
    return variables | ({DIFF_VARIABLE: packed} if packed and len(packed) <= MOST_DIFF_BYTES else {})


def left_out_diff(folder: Path) -> int:
    """Bytes of a diff that is too long to go with a job; 0 where all of it goes."""
    diff = source_diff(folder)
    return len(diff.encode()) if len(_packed(diff)) > MOST_DIFF_BYTES else 0


def _packed(diff: str) -> str:
    return base64.b64encode(zlib.compress(diff.encode(), 9)).decode() if diff else ""


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where git or the repository is missing, or it is no text."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
