"""Text files that appear together or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from prism_ray.errors import CatalogError, FaultList


def refuse_existing(paths: Iterable[Path], faults: FaultList) -> None:
    """Add a fault for each path that exists."""
    for path in paths:
        if path.exists() or path.is_symlink():
            faults.add(str(path), "exists", "remove it, or give another name")


def write_new_files(texts: Mapping[Path, str]) -> None:
    """Write files, none of which may exist; the last one appears last.

    Each is written under a temporary name beside its own first, then all are renamed.

    Raises:
        CatalogError: a file exists, or a folder cannot be written.
    """
    faults = FaultList()
    refuse_existing(texts, faults)
    faults.raise_if_any(CatalogError)
    made: list[Path] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            made.append(_temporary(path))
            made[-1].write_text(text, encoding="utf-8")
        for path in texts:
            _temporary(path).rename(path)
            made.append(path)
    except OSError as error:
        _remove(made)
        faults.add(str(error.filename or path), f"cannot be written ({error.strerror})", "give a folder with room")
        faults.raise_if_any(CatalogError)
    except BaseException:
        _remove(made)
        raise


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
