"""The contract of `results.json`: what every kind of report writes meets the schema, which refuses the rest."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pandas as pd
import pytest

from prism_ray.report.answer import page_of
from prism_ray.report.finalists import finalists_header, own_trials
from prism_ray.report.gather import Gathered
from prism_ray.report.genes import gene_table
from prism_ray.report.provenance import provenance
from prism_ray.report.results import RESULTS_SCHEMA, results_of, results_schema
from prism_ray.report.tables import ARM_COLUMNS, arm_table, study_table
from prism_ray.report.verdicts import verdict_table
from prism_ray.tracking import Expected, StudyHeader, StudyRun
from tests.report.made_predictions import predictions_of
from tests.report.made_trials import search_header, trial, trials_of
from tests.tracking_support import STUDY

HEADER = replace(
    STUDY,
    expectations=(Expected("n2", "n0", "better", 0.1),),
    benchmark="geneexp",
    folds=("fold_11",),
    cell_types=("K562", "GM12878"),
    n_trials=8,
)


def gathered(trials: pd.DataFrame, header: StudyHeader, genes: pd.DataFrame) -> Gathered:
    """What a report gathers, without a store."""
    own, compared = own_trials(trials, header), finalists_header(header)
    return Gathered(
        launch=StudyRun(header, "run", "1", "FINISHED", "2026-01-01T00:00:00", 0, {}),
        trials=trials,
        own=own,
        table=study_table(own, header),
        compared=compared,
        finalists=pd.DataFrame() if compared is None else arm_table(trials, compared),
        genes=genes,
        verdicts=verdict_table(trials, header),
        figures=(),
        facts=provenance(trials, header, tracking_uri="http://user:secret@host:5000", parent_run_id="run"),
    )


def ablation() -> Gathered:
    rows = [
        trial(arm, seed, 0.2 + seed / 1000, fold="fold_11", cell_type=cell_type, run_id=f"{arm}-{seed}-{cell_type}")
        for cell_type in HEADER.cell_types
        for arm in HEADER.arms
        for seed in HEADER.seeds
    ]
    rows[-1]["test/mse"] = math.nan
    trials = trials_of(rows)
    predictions = predictions_of(trials, {"n0": 0.5, "n2": 0.4})
    return gathered(trials, HEADER, gene_table(trials, predictions, HEADER))


def unfinished() -> Gathered:
    trials = trials_of([trial("n0", 2, math.nan, status="FAILED")])
    return gathered(trials, HEADER, pd.DataFrame())


def search() -> Gathered:
    rows = [
        trial(arm, seed, 0.2, **{"trial_id": f"{arm}-{seed}", "cost/train_s": 2.0, "param/data.signals": signals})
        for arm, signals in (("proposal-a", "dnase"), ("baseline", "none"), ("finalist-a", "dnase"))
        for seed in (2, 22)
    ]
    header = replace(
        search_header(2),
        arms=("baseline", "finalist-a"),
        baseline="baseline",
        finalist_seeds=(2, 22),
        second_metric="cost/train_s",
        second_direction="minimize",
        n_proposals=2,
    )
    return gathered(trials_of(rows), header, pd.DataFrame())


def content(of: Gathered) -> dict[str, Any]:
    """What a file would hold, read back as strict JSON."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    read: dict[str, Any] = json.loads(json.dumps(results_of(of, page_of(of))), parse_constant=refuse)
    return read


def test_the_schema_is_one() -> None:
    schema = results_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["results_schema"] == {"const": RESULTS_SCHEMA}
    assert list(schema["$defs"]["arm"]["properties"]) == ARM_COLUMNS


@pytest.mark.parametrize("make", [ablation, unfinished, search])
def test_what_a_report_writes_meets_the_schema(make: Callable[[], Gathered]) -> None:
    of = make()
    read = content(of)
    jsonschema.Draft202012Validator(results_schema()).validate(read)
    assert len(read["table"]) == len(of.table) > 0
    assert "secret" not in json.dumps(read)


def test_numbers_survive_and_what_is_not_defined_is_null() -> None:
    of = ablation()
    read = content(of)
    assert [row["mean"] for row in read["table"]] == pytest.approx(of.table["mean"].tolist(), rel=1e-14)
    assert read["table"][0]["difference"] is None
    assert read["verdict"] in ("supported", "equivalent", "inconclusive", "contradicted")
    assert read["trials"] == {
        "planned": 8,
        "finished": 7,
        "pruned": 0,
        "failed": 1,
        "running": 0,
        "missing": 0,
    }
    assert len(read["genes"]) == 2
    assert read["published"]["K562"][0]["model"] == "this study: n0"
    assert content(unfinished())["verdict"] == "inconclusive"
    assert content(search())["finalists"][1]["arm"] == "finalist-a"


def deleted(*place: str | int) -> Callable[[dict[str, Any]], None]:
    def change(read: dict[str, Any]) -> None:
        *way, last = place
        found: Any = read
        for part in way:
            found = found[part]
        del found[last]

    return change


def changed(value: object, *place: str | int) -> Callable[[dict[str, Any]], None]:
    def change(read: dict[str, Any]) -> None:
        *way, last = place
        found: Any = read
        for part in way:
            found = found[part]
        found[last] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        changed(2, "results_schema"),
        deleted("answer"),
        deleted("table", 0, "p_holm"),
        changed("0.2", "table", 0, "mean"),
        changed(1.5, "table", 0, "improvement"),
        changed(-1, "trials", "failed"),
        changed("maybe", "verdict"),
        changed("maybe", "verdicts", 0, "verdict"),
        deleted("provenance", "data_digest"),
        changed([1], "provenance", "run_ids"),
    ],
)
def test_what_breaks_the_contract_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    read = copy.deepcopy(content(ablation()))
    damage(read)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(results_schema()).validate(read)
