"""Warm starts of a search: finished trials of the workspace that it could have proposed itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prism_ray.study.identity import RESULTS_VERSION
from prism_ray.study.space import Scalar
from prism_ray.study.spec import Study
from prism_ray.training.record import TrialRecord, read_record


@dataclass(frozen=True)
class WarmStart:
    """A finished trial whose settings lie in a search's space.

    Attributes:
        trial_id: identity of its run.
        values: encoded value of each varied setting, by dotted path.
        scores: its value of each objective of the study.
    """

    trial_id: str
    values: Mapping[str, Scalar]
    scores: tuple[float, ...]


def warm_starts(study: Study, trials_folder: Path, data_digest: str) -> Iterator[WarmStart]:
    """Finished trials that the study's search could have proposed, in the order of their identities.

    They are of the same data and results version, and their settings are a point of the space on the study's baseline,
    seed, fold and cell type: everything that is not searched is equal.
    """
    for folder in sorted(trials_folder.glob("*")):
        record = read_record(folder)
        if record is None or (record.data_digest, record.results_version) != (data_digest, RESULTS_VERSION):
            continue
        values = study.values_of(record.config)
        scores = scores_of(study, record)
        if values is not None and all(map(math.isfinite, scores)):
            yield WarmStart(record.trial_id, values, scores)


def scores_of(study: Study, record: TrialRecord) -> tuple[float, ...]:
    """A finished trial's value of each objective of a study; nan where it has none."""
    known = {**record.metrics, **record.costs()}
    return tuple(float(known.get(objective.metric, math.nan)) for objective in study.objectives)
