"""Reports of evaluation studies: each arm against its own model as trained, and only where it has trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from prism_ray.report.by_chrom import fold_info
from prism_ray.report.figures import study_figures
from prism_ray.report.forest import forest_info
from prism_ray.report.genes import gene_table, pairs_of_genes
from prism_ray.report.html import reading_aid
from prism_ray.report.predicted import shown_arms
from prism_ray.report.tables import arm_table, study_table
from prism_ray.report.text import headline, table_cells
from prism_ray.tracking import StudyHeader
from tests.report.made_predictions import predictions_of
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY

HEADER = replace(
    STUDY,
    kind="evaluation",
    baseline="n0__intact",
    arms=("n0__intact", "n0__cut", "n2__intact", "n2__cut", "n2__there"),
    cell_types=("K562", "GM12878"),
    curve=None,
    seeds=(2, 22, 222),
    n_trials=27,
    references={"n0__cut": "n0__intact", "n2__cut": "n2__intact", "n2__there": "n2__intact"},
    evaluated_on={"n2__there": "GM12878"},
)
VALUES = {
    "n0__intact": [0.20, 0.22, 0.24],
    "n0__cut": [0.30, 0.31, 0.35],
    "n2__intact": [0.19, 0.20, 0.23],
    "n2__cut": [0.18, 0.22, 0.24],
    "n2__there": [0.40, 0.44, 0.41],
}


@pytest.fixture
def trials() -> pd.DataFrame:
    rows = [
        trial(arm, seed, value, cell_type=cell_type, run_id=f"{arm}-{seed}-{cell_type}")
        for cell_type in HEADER.cell_types
        for arm, values in VALUES.items()
        if cell_type != HEADER.evaluated_on.get(arm)
        for seed, value in zip(HEADER.seeds, values, strict=True)
    ]
    return trials_of(rows)


def test_each_arm_is_compared_with_its_own_reference(trials: pd.DataFrame) -> None:
    table = arm_table(trials, HEADER)
    of_first = table[table["cell_type"] == "K562"].set_index("arm")
    for arm, reference in (("n0__cut", "n0__intact"), ("n2__cut", "n2__intact"), ("n2__intact", "n0__intact")):
        test = stats.ttest_rel(VALUES[arm], VALUES[reference])
        assert of_first.loc[arm, "difference"] == pytest.approx(np.mean(VALUES[arm]) - np.mean(VALUES[reference]))
        assert of_first.loc[arm, "p"] == pytest.approx(test.pvalue)
    assert np.isnan(of_first.loc["n0__intact", "difference"])


def test_an_arm_has_no_row_where_it_is_evaluated_at_home(trials: pd.DataFrame) -> None:
    table = study_table(trials, HEADER)
    assert table[table["cell_type"] == "K562"]["arm"].tolist() == list(HEADER.arms)
    assert table[table["cell_type"] == "GM12878"]["arm"].tolist() == list(HEADER.arms[:4])
    assert not table["n_missing"].any()


def test_words_and_figures_say_what_is_compared(trials: pd.DataFrame) -> None:
    table = arm_table(trials, HEADER)
    assert "against its reference arm" in reading_aid(HEADER)
    first, second = headline(table, HEADER).split(" GM12878: ")
    assert first.startswith("K562: largest change of test/mse: n2__there, +0.2100 [")
    assert "] from n2__intact, p = " in first
    assert second.startswith("largest change of test/mse: n0__cut, +0.1000 [")
    nothing = headline(table[table["arm"].str.endswith("intact")], HEADER)
    assert nothing.startswith("K562: no model has been evaluated on changed input yet.")
    single = table.assign(p_holm=float("nan"))
    assert "n2__there, +0.2100 from n2__intact; too few pairs for an interval." in headline(single, HEADER)
    _, rows = table_cells(table, HEADER)
    assert [row[1] for row in rows if "baseline" in row] == ["n0__intact", "n0__intact"]
    assert "n2__there" in set(forest_info(table, HEADER)["arm"])
    figures = study_figures(trials, table, HEADER)
    assert [figure.name for figure in figures] == ["cross_cell", "forest"]
    assert figures[-1].title == "Arms against their references"


def test_genes_are_paired_within_a_cell_type_alone(trials: pd.DataFrame) -> None:
    assert pairs_of_genes(HEADER, "K562") == [
        ("n0__cut", "n0__intact"),
        ("n2__intact", "n0__intact"),
        ("n2__cut", "n2__intact"),
    ]
    errors = {arm: 0.3 + 0.1 * place for place, arm in enumerate(VALUES)}
    predictions = predictions_of(trials, errors, n_on_x=60)
    for run_id, table in predictions.items():
        if "__there" in run_id:
            table["label"] += 1  # another cell type's
    genes = gene_table(trials, predictions, HEADER)
    assert genes["arm"].tolist() == ["n0__cut", "n2__intact", "n2__cut"] * 2
    assert set(fold_info(trials, predictions, HEADER)["arm"]) == {"n0__cut", "n2__intact", "n2__cut"}
    best = arm_table(trials, HEADER).assign(mean=lambda table: (table["arm"] != "n2__there").astype(float))
    assert shown_arms(best, HEADER)[0] == "n0__intact"
    assert "n2__there" not in shown_arms(best, HEADER)


def test_a_header_with_references_survives_json() -> None:
    again = StudyHeader.from_json(HEADER.to_json())
    assert again == HEADER
    assert (again.reference("n2__cut"), again.reference("n2__intact")) == ("n2__intact", "n0__intact")
    assert again.reference("n0__intact") is None
    assert replace(HEADER, references={}).compared_with == "n0__intact"
