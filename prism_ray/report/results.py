"""`results.json`: everything that a report says, for machines. `results.schema.json` is its contract.

The schema's version is raised with every change that a reader of the file would notice; a new optional key is none.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pandas as pd

from prism_ray.report.gather import Gathered
from prism_ray.report.html import Page
from prism_ray.report.tables import count_trials
from prism_ray.report.verdicts import study_verdict

RESULTS_SCHEMA = 1
SCHEMA_NAME = "results.schema.json"


def results_of(gathered: Gathered, page: Page) -> dict[str, Any]:
    """Content of `results.json` as JSON types; what is not defined is null."""
    header = gathered.header
    return {
        "results_schema": RESULTS_SCHEMA,
        "study": {
            "name": header.name,
            "question": header.question,
            "kind": header.kind,
            "claim": header.claim,
            "source": header.source,
            "metric": header.metric,
            "direction": header.direction,
            "baseline": header.baseline,
            "arms": list(header.arms),
        },
        "answer": page.answer,
        "verdict": study_verdict(gathered.verdicts),
        "trials": count_trials(gathered.own, header),
        "counts": page.counts,
        "notes": list(page.notes),
        "table": _records(gathered.table),
        "finalists": _records(gathered.finalists),
        "verdicts": _records(gathered.verdicts),
        "genes": _records(gathered.genes),
        "published": {cell_type: _records(table) for cell_type, table in page.comparisons.items()},
        "figures": [{"name": one.name, "title": one.title, "caption": one.caption} for one in gathered.figures],
        "provenance": gathered.facts,
        "created": page.created,
    }


def results_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that `results.json` meets."""
    schema: dict[str, Any] = json.loads(files("prism_ray.report").joinpath(SCHEMA_NAME).read_text(encoding="utf-8"))
    return schema


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return records
