from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from prism_ray.report.verdicts import (
    VERDICT_COLUMNS,
    claim_text,
    study_verdict,
    verdict_cells,
    verdict_sentence,
    verdict_table,
)
from prism_ray.statistics import holm, judge, paired_effect
from prism_ray.tracking import StudyHeader
from prism_ray.tracking.headers import Expected
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY

SEEDS = (2, 22, 222, 2222, 22222)
HEADER = replace(
    STUDY,
    arms=("n0", "n2", "n4"),
    seeds=SEEDS,
    expectations=(Expected("n2", "n0", "better"), Expected("n4", "n2", "same", 0.02)),
)
VALUES = {
    "n0": [0.300, 0.310, 0.305, 0.302, 0.308],
    "n2": [0.250, 0.262, 0.253, 0.251, 0.259],
    "n4": [0.251, 0.261, 0.254, 0.250, 0.260],
}


@pytest.fixture
def trials() -> pd.DataFrame:
    return trials_of(
        [trial(arm, seed, value) for arm in VALUES for seed, value in zip(SEEDS, VALUES[arm], strict=True)]
    )


def test_each_claim_is_judged_on_its_pairs(trials: pd.DataFrame) -> None:
    table = verdict_table(trials, HEADER)
    assert list(table.columns) == VERDICT_COLUMNS
    assert table["verdict"].tolist() == ["supported", "supported"]
    first = [a - b for a, b in zip(VALUES["n2"], VALUES["n0"], strict=True)]
    second = [a - b for a, b in zip(VALUES["n4"], VALUES["n2"], strict=True)]
    corrected = holm([paired_effect(first).p, paired_effect(second).p])
    oracle = judge(first, "better", "minimize", p_corrected=corrected[0])
    row = table.iloc[0]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((oracle.difference, oracle.low, oracle.high))
    assert row["p"] == pytest.approx(corrected[0])
    assert row["n_needed"] == oracle.n_needed
    assert math.isnan(row["margin"])
    assert table["margin"].iloc[1] == 0.02
    assert verdict_sentence(table, HEADER) == "Verdict: supported. Of 2 declared claims: 2 supported."


def test_each_cell_type_is_judged_apart(trials: pd.DataFrame) -> None:
    swapped = {"n0": "n2", "n2": "n0", "n4": "n4"}
    other = trials.assign(cell_type="GM12878", arm=trials["arm"].map(swapped))
    header = replace(HEADER, cell_types=("K562", "GM12878"))
    table = verdict_table(pd.concat([trials, other], ignore_index=True), header)
    assert table["verdict"].tolist() == ["supported", "supported", "contradicted", "contradicted"]
    assert study_verdict(table) == "contradicted"
    headings, rows = verdict_cells(table, header)
    assert headings[:3] == ["cell type", "claim", "verdict"]
    assert rows[0][:3] == ["K562", "n2 is better than n0", "supported"]


def test_an_open_claim_says_how_many_pairs_would_settle_it(trials: pd.DataFrame) -> None:
    noisy = trials.assign(**{"test/mse": [0.30, 0.20, 0.31, 0.22, 0.28] * 2 + [0.25, 0.36, 0.22, 0.36, 0.27]})
    header = replace(HEADER, expectations=(Expected("n4", "n0", "worse"),))
    table = verdict_table(noisy, header)
    assert table["verdict"].tolist() == ["inconclusive"]
    n_needed = int(table["n_needed"].iloc[0])
    assert n_needed > 5
    assert verdict_sentence(table, header).endswith(f"About {n_needed} pairs of runs would settle what is open.")


def test_without_pairs_nothing_is_known(trials: pd.DataFrame) -> None:
    table = verdict_table(trials[trials["arm"] == "n0"], HEADER)
    assert table["verdict"].tolist() == ["inconclusive", "inconclusive"]
    assert table["n_pairs"].tolist() == [0, 0]
    assert "Too few runs" in verdict_sentence(table, HEADER)
    _, rows = verdict_cells(table, HEADER)
    assert rows[0][2:] == ["0", "-", "-", "-", "-"]


def test_a_study_that_claims_nothing_has_no_verdict(trials: pd.DataFrame) -> None:
    header = replace(HEADER, expectations=())
    table = verdict_table(trials, header)
    assert study_verdict(table) is None
    assert verdict_sentence(table, header) == ""


def test_claims_in_words() -> None:
    assert claim_text(Expected("n4", "n2", "same", 0.002)) == "n4 does as n2 (margin 0.002)"
    assert claim_text(Expected("n2", "n0", "better")) == "n2 is better than n0"


def test_claims_travel_with_the_header() -> None:
    assert StudyHeader.from_json(HEADER.to_json()) == HEADER
