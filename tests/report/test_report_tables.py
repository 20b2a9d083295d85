from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from prism_ray.report.tables import (
    ARM_COLUMNS,
    arm_table,
    best_trials_table,
    count_trials,
    searched_parameters,
    summary_metrics,
)
from prism_ray.report.text import (
    ARM_HEADINGS,
    CHOSEN_HEADING,
    COST_HEADING,
    counts_sentence,
    duration,
    headline,
    interval,
    number,
    probability,
    signed,
    table_cells,
    table_markdown,
    table_text,
)
from prism_ray.report.values import selection_column
from prism_ray.statistics import effect_size
from tests.report.made_trials import search_header, search_trials, trial, trials_of
from tests.tracking_support import STUDY

HEADER = replace(STUDY, arms=("n0", "n2", "n4"), seeds=(2, 22, 222), n_trials=9)
N0, N2 = [0.20, 0.22, 0.24], [0.19, 0.20, 0.23]


@pytest.fixture
def trials() -> pd.DataFrame:
    rows = [trial("n0", seed, value) for seed, value in zip(HEADER.seeds, N0, strict=True)]
    rows += [trial("n2", seed, value) for seed, value in zip(HEADER.seeds, N2, strict=True)]
    rows += [trial("n4", 2, 0.5, status="FAILED"), trial("n4", 22, math.nan, status="FINISHED")]
    return trials_of(rows)


def test_arm_table_equals_scipy(trials: pd.DataFrame) -> None:
    table = arm_table(trials, HEADER)
    assert list(table.columns) == ARM_COLUMNS
    assert table["arm"].tolist() == ["n0", "n2", "n4"]
    row = table.iloc[1]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(N2), scale=stats.sem(N2))
    assert row[["mean", "std", "ci_low", "ci_high"]].tolist() == pytest.approx(
        [np.mean(N2), np.std(N2, ddof=1), low, high]
    )
    test = stats.ttest_rel(N2, N0)
    effect_interval = test.confidence_interval(0.95)
    assert row["difference"] == pytest.approx(-0.04 / 3)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((effect_interval.low, effect_interval.high))
    # n4 has no value and no test: Holm's correction counts one arm.
    assert row["p"] == row["p_holm"] == pytest.approx(test.pvalue)
    assert row["p_sign"] == 0.25
    assert row["n_pairs"] == 3


def test_size_improvement_cost_and_choice_of_an_arm(trials: pd.DataFrame) -> None:
    costs = trials.assign(**{"cost/train_s": [10.0, 20.0, 60.0, 1.0, 2.0, 3.0, 9.0, 9.0]})
    table = arm_table(costs, HEADER)
    row = table.iloc[1]
    differences = np.subtract(N2, N0)
    size = effect_size(differences)
    assert row[["effect_size", "effect_low", "effect_high"]].tolist() == pytest.approx([size.d, size.low, size.high])
    # SciPy's U counts pairs in which the first is greater, ties half: less is better here.
    u = stats.mannwhitneyu(N0, N2).statistic
    assert row["improvement"] == pytest.approx(u / 9)
    assert table["train_s"].tolist()[:2] == [30.0, 2.0]
    # Validation equals test here: n0's 0.22 is more than a standard error above n2's 0.2067.
    assert table["chosen"].tolist() == [False, True, False]
    headings, rows = table_cells(table, HEADER)
    assert headings[-2:] == [COST_HEADING, CHOSEN_HEADING]
    assert [line[-2:] for line in rows] == [["30.0 s", ""], ["2.0 s", "chosen"], ["-", ""]]
    free = table_cells(arm_table(costs.assign(**{"cost/train_s": 0.0}), replace(HEADER, curve=None)), HEADER)[0]
    assert COST_HEADING not in free
    assert CHOSEN_HEADING not in free


def test_improvement_compares_within_folds() -> None:
    header = replace(HEADER, folds=("fold_1", "fold_2"))
    rows = [
        trial(arm, 2, value + harder, fold=fold)
        for fold, harder in (("fold_1", 0.0), ("fold_2", 1.0))
        for arm, value in (("n0", 0.3), ("n2", 0.2))
    ]
    assert arm_table(trials_of(rows), header).iloc[1]["improvement"] == 1.0
    assert arm_table(trials_of(rows), replace(header, direction="maximize")).iloc[1]["improvement"] == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (90, "1.5 min"), (9000, "2.5 h"), (math.nan, "-")]
)
def test_a_time_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_failed_running_and_missing_trials_are_counted(trials: pd.DataFrame) -> None:
    table = arm_table(trials, HEADER).set_index("arm")
    assert table.loc["n4", ["n_planned", "n_finished", "n_failed", "n_running", "n_missing"]].tolist() == [
        3,
        0,
        2,
        0,
        1,
    ]
    assert math.isnan(table.loc["n4", "mean"])
    assert math.isnan(table.loc["n4", "p_holm"])
    running = trials_of([trial("n4", 2, math.nan, status="RUNNING")])
    table = arm_table(running, HEADER).set_index("arm")
    assert table.loc["n4", ["n_finished", "n_failed", "n_running", "n_missing"]].tolist() == [0, 0, 1, 2]
    assert table.loc["n0", ["n_finished", "n_failed", "n_running", "n_missing"]].tolist() == [0, 0, 0, 3]


def test_pairs_need_the_same_seed_and_fold(trials: pd.DataFrame) -> None:
    header = replace(HEADER, folds=("fold_1", "fold_2"))
    rows = [trial("n0", 2, 0.2), trial("n0", 22, 0.3), trial("n2", 2, 0.1), trial("n2", 22, 0.9, fold="fold_2")]
    row = arm_table(trials_of(rows), header).iloc[1]
    assert (row["n_finished"], row["n_pairs"]) == (2, 1)
    assert row["difference"] == pytest.approx(-0.1)
    assert math.isnan(row["p"])


def test_the_last_finished_run_of_a_place_counts() -> None:
    rows = [trial("n0", 2, 0.9), trial("n0", 2, 0.2), trial("n0", 2, 0.7, status="FAILED")]
    row = arm_table(trials_of(rows), HEADER).iloc[0]
    assert (row["n_finished"], row["n_failed"], row["mean"]) == (1, 0, 0.2)


def test_holm_runs_over_the_arms_of_a_cell_type() -> None:
    rng = np.random.default_rng(0)
    header = replace(HEADER, cell_types=("K562", "GM12878"))
    rows = [
        trial(arm, seed, 0.2 + rng.normal(0, 0.01), cell_type=cell_type)
        for cell_type in header.cell_types
        for arm in header.arms
        for seed in header.seeds
    ]
    table = arm_table(trials_of(rows), header)
    assert len(table) == 6
    for _, part in table.groupby("cell_type"):
        p = part["p"].dropna().to_numpy()
        assert part["p_holm"].dropna().min() == pytest.approx(min(1.0, 2 * p.min()))
    headings, cells = table_cells(table, header)
    assert headings[0] == "cell type"
    assert [line[0] for line in cells] == ["K562"] * 3 + ["GM12878"] * 3
    metrics = summary_metrics(table, header)
    assert metrics["arm/n2/GM12878/test_mse_mean"] == pytest.approx(table["mean"][4])
    assert headline(table, header).startswith("K562: ")


def test_a_study_without_baseline_has_no_differences(trials: pd.DataFrame) -> None:
    header = replace(HEADER, baseline=None)
    table = arm_table(trials, header)
    assert table["difference"].isna().all()
    assert table_cells(table, header)[0] == [*ARM_HEADINGS, CHOSEN_HEADING]
    assert "difference" not in headline(table, header)


def test_no_trial_at_all_is_a_plain_statement() -> None:
    table = arm_table(trials_of([]), HEADER)
    assert table["n_missing"].tolist() == [3, 3, 3]
    assert headline(table, HEADER) == "No trial has finished with a value of test/mse yet."
    counts = count_trials(trials_of([]), HEADER)
    assert counts_sentence(counts) == "0 of 9 planned trials finished; 0 failed, 0 running, 9 not started."
    assert summary_metrics(table, HEADER) == {f"arm/{arm}/n_finished": 0.0 for arm in HEADER.arms}


def test_counts_are_of_trials_not_of_runs(trials: pd.DataFrame) -> None:
    assert count_trials(trials, HEADER) == {
        "planned": 9,
        "finished": 6,
        "pruned": 0,
        "failed": 2,
        "running": 0,
        "missing": 1,
    }
    again = trials_of([trial("n0", 2, math.nan, status="FAILED"), trial("n0", 2, 0.2)])
    assert count_trials(again, HEADER) == {
        "planned": 9,
        "finished": 1,
        "pruned": 0,
        "failed": 0,
        "running": 0,
        "missing": 8,
    }


def test_headline_names_the_best_arm_with_its_uncertainty(trials: pd.DataFrame) -> None:
    text = headline(arm_table(trials, HEADER), HEADER)
    assert text.startswith("Lowest mean test/mse: n2, 0.2067 over 3 runs; difference from n0 -0.0133 [-0.0277, 0.0010]")
    assert "With 3 pairs a true difference of" in text
    assert ", p = 0.057 after Holm" in text
    n2 = (0.2, 0.200001, 0.199999)
    rows = [trial("n0", seed, 0.3) for seed in HEADER.seeds]
    sure = trials_of(rows + [trial("n2", seed, value) for seed, value in zip(HEADER.seeds, n2, strict=True)])
    assert ", p < 0.001 after Holm" in headline(arm_table(sure, HEADER), HEADER)
    upwards = headline(arm_table(trials, HEADER), replace(HEADER, direction="maximize"))
    assert upwards == "Highest mean test/mse: n0, 0.2200 over 3 runs; it is the baseline."
    one = trials_of([trial("n0", 2, 0.3), trial("n2", 2, 0.2)])
    assert "too few pairs with n0" in headline(arm_table(one, HEADER), HEADER)


def test_table_reads_well(trials: pd.DataFrame) -> None:
    lines = table_text(arm_table(trials, HEADER), HEADER).splitlines()
    assert lines[0].split()[:4] == ["arm", "finished", "failed", "missing"]
    assert "0.2200 ± 0.0200  [0.1703, 0.2697]  baseline" in lines[2]
    assert "-0.0133" in lines[3]
    assert lines[4].split() == ["n4", "0", "of", "3", "2", "1", "-", "-", "0", "-", "-", "-", "-"]
    running = arm_table(trials_of([trial("n2", 2, math.nan, status="RUNNING")]), HEADER)
    assert "0 (+1 running)" in table_text(running, HEADER)
    assert table_markdown(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.17893, "0.1789"),
        (3.5e-4, "0.00035"),
        (0.0, "0.0000"),
        (3, "3"),
        (np.int64(3), "3"),
        (math.nan, "-"),
        ("a+b", "a+b"),
        (None, "-"),
        (pd.NA, "-"),
        (True, "True"),
        (1.5e9, "1.5e+09"),
        (-2.5e-7, "-2.5e-07"),
    ],
)
def test_numbers_as_text(value: object, text: str) -> None:
    assert number(value) == text


def test_intervals_signs_and_probabilities() -> None:
    assert interval(0.1, 0.25) == "[0.1000, 0.2500]"
    assert interval(math.nan, math.nan) == "-"
    assert (signed(0.5), signed(-0.5), signed(math.nan)) == ("+0.5000", "-0.5000", "-")
    assert (probability(0.0004), probability(0.0325), probability(math.nan)) == ("< 0.001", "0.033", "-")


def test_summary_metrics_have_names_that_mlflow_takes(trials: pd.DataFrame) -> None:
    renamed = trials.assign(arm=trials["arm"].replace({"n2": "h3k27ac+dnase"}))
    header = replace(HEADER, arms=("n0", "h3k27ac+dnase", "n4"))
    metrics = summary_metrics(arm_table(renamed, header), header)
    assert metrics["arm/h3k27ac_dnase/test_mse_mean"] == pytest.approx(np.mean(N2))
    assert metrics["arm/h3k27ac_dnase/n_finished"] == 3
    assert "arm/n0/test_mse_difference" not in metrics


def test_settings_are_chosen_on_validation() -> None:
    assert selection_column("test/mse") == "best/mse"
    assert selection_column("val/mse") == "val/mse"


def test_best_trials_are_ranked_by_validation() -> None:
    # The third trial has the best test value, the second the best validation: validation decides.
    trials = search_trials([(0.3, 0.31), (0.1, 0.3), (0.2, 0.05)])
    header = search_header(3)
    table = best_trials_table(trials, header)
    assert list(table.columns[:7]) == ["rank", "trial_id", "cell_type", "seed", "fold", "best/mse", "test/mse"]
    assert table["best/mse"].tolist() == [0.1, 0.2, 0.3]
    assert list(table.columns[7:]) == ["model.n_states", "data.signals"]
    assert table["model.n_states"].tolist() == [1, 2, 0]
    assert summary_metrics(table, header) == {"search/best_mse_best": 0.1}
    assert "lowest best/mse: 0.1000" in headline(table, header)
    assert best_trials_table(trials, header, n_best=1)["rank"].tolist() == [1]
    assert len(table_cells(table, header)[1]) == 3


def test_searched_settings_are_those_that_differ() -> None:
    trials = search_trials([(0.3, 0.3), (0.1, 0.1)]).assign(**{"param/seed": [1, 2], "param/same": [1, 1]})
    assert searched_parameters(trials) == ["param/model.n_states", "param/data.signals"]


def test_a_search_without_values_is_a_plain_statement() -> None:
    trials = search_trials([(math.nan, math.nan)])
    table = best_trials_table(trials, search_header(2))
    assert len(table) == 0
    assert headline(table, search_header(2)) == "No trial has finished with a value yet."
    assert summary_metrics(table, search_header(2)) == {}
    assert count_trials(trials, search_header(2))["failed"] == 1
