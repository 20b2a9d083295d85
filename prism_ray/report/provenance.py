"""What an answer rests on: study, data, source, runs and versions."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from prism_ray.tracking.addresses import redact
from prism_ray.tracking.headers import StudyHeader

MIXTURES = {
    "git_commits": "source commits",
    "data_digests": "data digests",
    "results_versions": "results versions",
}
"""What all trials of a study should have one of, by its name among the facts, in words."""
PACKAGES = ("prism-ray", "mlflow", "numpy", "pandas", "scipy", "matplotlib")


def provenance(trials: pd.DataFrame, header: StudyHeader, *, tracking_uri: str, parent_run_id: str) -> dict[str, Any]:
    """Facts to repeat and to check a report, as JSON types; addresses without credentials.

    `git_commits`, `data_digests` and `results_versions` list what the trials say: more than one of any is a mixture.
    `hardware` lists the processors that they ran on; tables from before runs said so have none.
    """
    return {
        "study": header.name,
        "command": header.command,
        "study_digest": header.study_digest,
        "data_digest": header.data_digest,
        "results_version": header.results_version,
        "metric": header.metric,
        "seeds": list(header.seeds),
        "folds": list(header.folds),
        "cell_types": list(header.cell_types),
        "tracking_uri": redact(tracking_uri),
        "parent_run_id": parent_run_id,
        "git_commits": _distinct(trials["git_commit"]),
        "data_digests": _distinct(trials["data_digest"]),
        "results_versions": [int(value) for value in _distinct(trials["results_version"])],
        "run_ids": [str(value) for value in trials["run_id"]],
        "fingerprints": _distinct(trials["fingerprint"]),
        "hardware": _distinct(trials["device"]) if "device" in trials else [],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def mixture_notes(facts: dict[str, Any]) -> list[str]:
    """Sentences about trials that differ in what should be one for all of them; empty where nothing is mixed."""
    return [
        f"The trials come from {len(facts[name])} {word}: {', '.join(str(value)[:12] for value in facts[name])}."
        for name, word in MIXTURES.items()
        if len(facts[name]) > 1
    ]


def _distinct(values: pd.Series) -> list[str]:
    return sorted({str(value) for value in values.dropna()})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
