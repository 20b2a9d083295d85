"""What of a folder is sent with a job: Ray's own rules (.gitignore and .rayignore), seen before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

from prism_ray.errors import FaultList, InputError
from prism_ray.sizes import size_text

MOST_BYTES = 100 << 20
EXCLUDES = (".git", ".venv", "venv", "__pycache__")
"""Left out whatever the ignore files say: Ray's own list since 2.60, told to older versions."""
_SHOWN = 5


@dataclass(frozen=True)
class Package:
    """Files that a job gets.

    Attributes:
        folder: where they are here.
        files: size in bytes by path below it, the largest first.
    """

    folder: Path
    files: dict[str, int]

    @property
    def n_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    @property
    def largest(self) -> dict[str, int]:
        """The largest files."""
        return dict(list(self.files.items())[:_SHOWN])


def find_package(folder: Path, study_file: Path, most_bytes: int = MOST_BYTES) -> Package:
    """The files of a folder that Ray would upload.

    Args:
        folder: the job's working folder.
        study_file: file that the job reads; one that is not in the folder must be there on the cluster by itself.
        most_bytes: largest package.

    Raises:
        InputError: they are too many bytes, or the study's file is in the folder and not among them.
    """
    found = {str(path.relative_to(folder)): path.stat().st_size for path in _files(folder, [])}
    package = Package(folder, dict(sorted(found.items(), key=lambda item: -item[1])))
    faults = FaultList()
    if package.n_bytes > most_bytes:
        listed = ", ".join(f"{name} {size_text(size)}" for name, size in package.largest.items())
        faults.add(
            str(folder),
            f"would be sent to the cluster with {size_text(package.n_bytes)}, and "
            f"{size_text(most_bytes)} are allowed; the largest files are {listed}",
            "name what a job does not need in .rayignore, or submit from another folder",
        )
    resolved = study_file.resolve()
    if resolved.is_relative_to(folder.resolve()) and str(resolved.relative_to(folder.resolve())) not in found:
        faults.add(str(study_file), "is left out by .gitignore or .rayignore", "take it out of them: the job reads it")
    faults.raise_if_any(InputError)
    return package


def _files(folder: Path, excludes: list[Callable[[Path], bool]]) -> Iterator[Path]:
    # INFO lines of Ray's logger would come between the plan's.
    inner = [*excludes, *get_excludes_from_ignore_files(folder, include_gitignore=_heeds_gitignore(), logger=_QUIET)]
    for path in sorted(folder.iterdir()):
        if path.name in EXCLUDES or any(leaves_out(path) for leaves_out in inner):
            continue
        if path.is_dir():
            yield from _files(path, inner)
        elif path.is_file():
            yield path


def _heeds_gitignore() -> bool:
    """As Ray's client decides it."""
    return os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"


class _Quiet:
    def info(self, text: str) -> None:
        """Say nothing."""


_QUIET = _Quiet()
