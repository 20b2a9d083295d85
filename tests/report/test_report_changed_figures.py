"""Figures of trained models given other input: removed signals, cut windows, another cell type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from prism_ray.report.changed import CHANGE_COLUMNS, changes_info
from prism_ray.report.cross_cell import CROSS_COLUMNS, cross_caption, cross_info, draw_cross
from prism_ray.report.figures import study_figures
from prism_ray.report.removal import REMOVAL_COLUMNS, draw_removal, removal_caption, removal_info
from prism_ray.report.tables import arm_table
from prism_ray.report.truncation import TRUNCATION_COLUMNS, draw_truncation, truncation_caption, truncation_info
from prism_ray.tracking import StudyHeader
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY

SEEDS = (2, 22, 222)
STEPS = (0.0, 0.01, 0.03)
"""Part of an arm's value that is added to it, by seed."""
MEAN = 1 + sum(STEPS) / 3
AS_TRAINED = {
    "param/data.window_bp": 2000,
    "param/evaluation.window_bp": 0,
    "param/evaluation.signals": "none",
    "param/evaluation.scalars": "none",
    "param/evaluation.remove_by": "zero",
}


def evaluation(arms: dict[str, tuple[float, dict[str, Any]]], **changes: Any) -> tuple[pd.DataFrame, StudyHeader]:
    """Trials and header of an evaluation: by arm its value without what a seed adds, and its settings."""
    references = {arm: f"{arm.partition('__')[0]}__intact" for arm in arms if not arm.endswith("__intact")}
    header = replace(
        STUDY,
        kind="evaluation",
        baseline=next(iter(arms)),
        arms=tuple(arms),
        references=references,
        curve=None,
        seeds=SEEDS,
        **changes,
    )
    rows = [
        trial(arm, seed, value * (1 + step), cell_type=cell_type, **{**AS_TRAINED, **settings})
        for cell_type in header.cell_types
        for arm, (value, settings) in arms.items()
        if header.evaluated_on.get(arm) != cell_type
        for seed, step in zip(SEEDS, STEPS, strict=True)
    ]
    return trials_of(rows), header


def removed(signals: str, scalars: str = "none", by: str = "zero") -> dict[str, Any]:
    return {
        "param/evaluation.signals": signals,
        "param/evaluation.scalars": scalars,
        "param/evaluation.remove_by": by,
    }


def removals() -> tuple[pd.DataFrame, StudyHeader]:
    return evaluation(
        {
            "n0__intact": (0.2, {}),
            "n0__mean_dnase": (0.22, removed("dnase", by="mean")),
            "n0__zero_dnase": (0.25, removed("dnase")),
            "n0__zero_both": (0.6, removed("h3k27ac+dnase", "promoter_activity")),
            "n2__intact": (0.1, {}),
            "n2__zero_dnase": (0.12, removed("dnase")),
            "n2__zero_both": (0.4, removed("h3k27ac+dnase", "promoter_activity")),
            "n2__cut": (0.3, {"param/evaluation.window_bp": 500, **removed("dnase")}),
        }
    )


def test_what_was_changed_is_read_from_the_settings() -> None:
    trials, header = removals()
    info = changes_info(trials, header).set_index("arm")
    assert list(info.columns) == CHANGE_COLUMNS[1:]
    assert info.loc["n2__zero_both"].tolist() == ["n2", "h3k27ac + dnase + promoter_activity", "zero", 2000, 2000, ""]
    assert info.loc["n2__cut", ["window_bp", "trained_bp"]].tolist() == [500, 2000]
    assert info.loc["n0__intact", ["removed", "remove_by"]].tolist() == ["", ""]
    # Settings at their default are not told of every run.
    untold = trials.drop(columns=[name for name in trials if name.startswith("param/")])
    assert set(changes_info(untold, header)["removed"]) == {""}
    assert changes_info(untold, header)["window_bp"].isna().all()
    assert not len(changes_info(trials, replace(header, kind="ablation")))


def test_removals_stand_by_way_and_input_for_each_model() -> None:
    trials, header = removals()
    table = arm_table(trials, header)
    info = removal_info(trials, table, header)
    assert list(info.columns) == REMOVAL_COLUMNS
    assert info[["remove_by", "removed", "model"]].to_numpy().tolist() == [
        ["zero", "dnase", "n0"],
        ["zero", "h3k27ac + dnase + promoter_activity", "n0"],
        ["zero", "dnase", "n2"],
        ["zero", "h3k27ac + dnase + promoter_activity", "n2"],
        ["mean", "dnase", "n0"],
    ]
    differences = [0.3 * (1 + step) for step in STEPS]
    low, high = stats.t.interval(0.95, 2, loc=sum(differences) / 3, scale=stats.sem(differences))
    of_both = info[(info["removed"] != "dnase") & (info["model"] == "n2")].iloc[0]
    assert (of_both["difference_low"], of_both["difference_high"]) == pytest.approx((low, high))
    caption = removal_caption(info, header)
    assert "models n0 and n2" in caption
    assert "15 pairs in all" in caption
    assert "to the right" in caption
    assert "to the left" in removal_caption(info, replace(header, direction="maximize"))


def test_bars_of_one_input_stand_beside_each_other() -> None:
    trials, header = removals()
    info = removal_info(trials, arm_table(trials, header), header)
    zero, mean = draw_removal(info, header).axes
    assert [label.get_text() for label in zero.get_yticklabels()] == [
        "without dnase",
        "without h3k27ac + dnase +\npromoter_activity",
    ]
    bars = {container.get_label(): container.patches for container in zero.containers if hasattr(container, "patches")}
    assert [bar.get_width() for bar in bars["n0"]] == pytest.approx([0.05 * MEAN, 0.4 * MEAN])
    for first, second in zip(bars["n0"], bars["n2"], strict=True):
        assert first.get_y() + first.get_height() <= second.get_y()
    assert {bar.get_hatch() for bar in bars["n0"]} != {bar.get_hatch() for bar in bars["n2"]}
    assert zero.get_xlim() == mean.get_xlim()


def test_windows_are_cut_down_a_model() -> None:
    long, short = {"param/data.window_bp": 200_000}, {"param/data.window_bp": 2500}
    trials, header = evaluation(
        {
            "long__intact": (0.2, long),
            "long__cut_2500bp": (0.21, {**long, "param/evaluation.window_bp": 2500}),
            "long__cut_and_removed": (0.5, {**long, "param/evaluation.window_bp": 2500, **removed("dnase")}),
            "short__intact": (0.25, short),
            "short__cut_500bp": (0.4, {**short, "param/evaluation.window_bp": 500}),
            "uncut__intact": (0.3, short),
        }
    )
    info = truncation_info(trials, header)
    assert list(info.columns) == TRUNCATION_COLUMNS
    assert set(info["arm"]) == {"long__intact", "long__cut_2500bp", "short__intact", "short__cut_500bp"}
    line = info[info["model"] == "long"].drop_duplicates("window_bp")
    assert line["window_bp"].tolist() == [2500, 200_000]
    assert line["mean"].tolist() == pytest.approx([0.21 * MEAN, 0.2 * MEAN])
    assert "12 single runs" in truncation_caption(info, header)
    (axis,) = draw_truncation(info, header).axes
    assert axis.get_xscale() == "log"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["500", "2500", "200k"]
    rings = [line for line in axis.lines if line.get_markersize() == 13]
    assert [float(ring.get_ydata()[0]) for ring in rings] == pytest.approx([0.25 * MEAN, 0.2 * MEAN])


def crossed() -> tuple[pd.DataFrame, StudyHeader]:
    return evaluation(
        {
            "n0__intact": (0.2, {}),
            "n0__on_K562": (0.4, {}),
            "n0__on_GM12878": (0.5, {}),
            "n0__zero": (0.9, removed("dnase")),
        },
        cell_types=("K562", "GM12878"),
        evaluated_on={"n0__on_K562": "K562", "n0__on_GM12878": "GM12878"},
    )


def test_cells_are_trained_on_against_tested_on() -> None:
    trials, header = crossed()
    info = cross_info(trials, header)
    assert list(info.columns) == CROSS_COLUMNS
    cells = {(row["trained_on"], row["tested_on"]): row["arm"] for row in info.to_dict("records")}
    assert cells == {
        ("K562", "K562"): "n0__intact",
        ("K562", "GM12878"): "n0__on_GM12878",
        ("GM12878", "GM12878"): "n0__intact",
        ("GM12878", "K562"): "n0__on_K562",
    }
    assert set(info["n"]) == {3}
    assert "12 runs" in cross_caption(info, header)
    figure = draw_cross(info, header)
    texts = [text.get_text().splitlines()[0] for text in figure.axes[0].texts]
    assert texts == ["0.2027", "0.5067", "0.4053", "0.2027"]


def test_a_cell_without_a_run_says_so() -> None:
    trials, header = crossed()
    trials.loc[trials["arm"] == "n0__on_K562", "status"] = "FAILED"
    texts = [text.get_text() for text in draw_cross(cross_info(trials, header), header).axes[0].texts]
    assert texts[2] == "-"


def test_figures_are_there_where_they_apply() -> None:
    trials, header = removals()
    assert [one.name for one in study_figures(trials, arm_table(trials, header), header)] == ["removal", "forest"]
    trials, header = crossed()
    names = [one.name for one in study_figures(trials, arm_table(trials, header), header)]
    assert names == ["removal", "cross_cell", "forest"]
    failed = trials.assign(status="FAILED")
    assert study_figures(failed, arm_table(failed, header), header) == []
