from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy import stats

from prism_ray.report.curve import CURVE_COLUMNS, curve_caption, curve_info, draw_curve
from prism_ray.report.figures import study_figures
from prism_ray.report.forest import draw_forest, forest_caption, forest_info
from prism_ray.report.search import (
    draw_history,
    draw_parameters,
    history_caption,
    history_info,
    parameter_info,
    parameters_caption,
)
from prism_ray.report.style import inline_svg, save_figure
from prism_ray.report.tables import arm_table, study_table
from tests.report.made_trials import search_header, search_trials, trial, trials_of
from tests.tracking_support import STUDY

HEADER = replace(STUDY, arms=("n0", "n2", "n8"), seeds=(2, 22, 222), n_trials=9)
TEST = {"n0": [0.30, 0.31, 0.32], "n2": [0.21, 0.20, 0.22], "n8": [0.20, 0.19, 0.24]}
# Best validation mean at n = 8 (0.200), standard error 0.0058: n = 2 (0.203) does as well.
BEST = {"n0": [0.30, 0.31, 0.32], "n2": [0.203, 0.202, 0.204], "n8": [0.19, 0.20, 0.21]}


@pytest.fixture
def trials() -> pd.DataFrame:
    return trials_of(
        [
            trial(arm, seed, value, **{"best/mse": best})
            for arm in HEADER.arms
            for seed, value, best in zip(HEADER.seeds, TEST[arm], BEST[arm], strict=True)
        ]
    )


def test_curve_has_each_run_and_its_positions_statistics(trials: pd.DataFrame) -> None:
    info = curve_info(trials, HEADER)
    assert list(info.columns) == CURVE_COLUMNS
    assert len(info) == 9
    at_two = info[info["position"] == 2]
    assert at_two["value"].tolist() == TEST["n2"]
    assert at_two["mean"].unique().tolist() == pytest.approx([0.21])
    low, high = stats.t.interval(0.95, 2, loc=0.21, scale=stats.sem(TEST["n2"]))
    assert (at_two["ci_low"].iloc[0], at_two["ci_high"].iloc[0]) == pytest.approx((low, high))
    assert set(info["n"]) == {3}


def test_position_is_chosen_on_validation(trials: pd.DataFrame) -> None:
    info = curve_info(trials, HEADER)
    assert info.loc[info["chosen"], "position"].unique().tolist() == [2.0]
    assert set(info["chosen_on"]) == {"best/mse"}
    caption = curve_caption(info, HEADER)
    assert "9 single runs" in caption
    assert "within one standard error of the best mean best/mse" in caption
    assert caption.endswith("2 (K562).")


def test_without_validation_no_position_is_marked(trials: pd.DataFrame) -> None:
    info = curve_info(trials.drop(columns="best/mse"), HEADER)
    assert not info["chosen"].any()
    assert "No position is marked" in curve_caption(info, HEADER)
    draw_curve(info, HEADER)


def test_other_settings_make_curves_of_their_own(trials: pd.DataFrame) -> None:
    dna = trials.assign(**{"param/data.signals": "none"})
    both = trials.assign(**{"param/data.signals": "h3k27ac", "arm": trials["arm"] + "-signals"})
    info = curve_info(pd.concat([dna, both], ignore_index=True), HEADER)
    assert info["series"].unique().tolist() == ["data.signals none", "data.signals h3k27ac"]
    assert info.groupby("series")["chosen"].any().tolist() == [True, True]
    labels = [text.get_text() for text in draw_curve(info, HEADER).axes[0].get_legend().get_texts()]
    assert labels == ["data.signals none", "data.signals h3k27ac"]


def test_curve_needs_numbers_on_its_axis(trials: pd.DataFrame) -> None:
    assert len(curve_info(trials, replace(HEADER, curve=None))) == 0
    assert len(curve_info(trials, replace(HEADER, curve="model.absent"))) == 0
    assert len(curve_info(trials.assign(**{"param/model.n_states": "text"}), HEADER)) == 0
    assert len(curve_info(trials.assign(status="FAILED"), HEADER)) == 0


def test_curve_draws_what_its_info_says(trials: pd.DataFrame) -> None:
    (axis,) = draw_curve(curve_info(trials, HEADER), HEADER).axes
    dots = axis.lines[0]
    assert dots.get_xydata()[:, 1].tolist() == [value for arm in HEADER.arms for value in TEST[arm]]
    means = axis.containers[0].lines[0].get_xydata()
    assert means == pytest.approx(np.array([[0, 0.31], [2, 0.21], [8, 0.21]]))
    ring = axis.lines[-1]
    assert ring.get_xydata().tolist() == [[2.0, pytest.approx(0.21)]]
    assert axis.get_xlabel() == "model.n_states"
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "2", "8"]


def test_a_run_outside_its_interval_is_on_the_page() -> None:
    seeds = tuple(range(12))
    header = replace(HEADER, arms=("n0", "n2"), seeds=seeds)
    rows = [trial(arm, seed, 0.9 if seed == 0 else 0.2) for arm in header.arms for seed in seeds]
    info = curve_info(trials_of(rows), header)
    assert info["ci_high"].max() < 0.9
    assert draw_curve(info, header).axes[0].get_ylim()[1] > 0.9


def test_long_ranges_are_logarithmic_and_cell_types_apart(trials: pd.DataFrame) -> None:
    wide = trials.assign(**{"param/data.window_bp": trials["param/model.n_states"].map({0: 500, 2: 2000, 8: 200_000})})
    other = wide.assign(cell_type="GM12878")
    header = replace(HEADER, curve="data.window_bp", cell_types=("K562", "GM12878"))
    axes = draw_curve(curve_info(pd.concat([wide, other], ignore_index=True), header), header).axes
    assert [axis.get_title() for axis in axes] == ["K562", "GM12878"]
    assert {axis.get_xscale() for axis in axes} == {"log"}


def test_one_run_a_position_has_no_interval() -> None:
    info = curve_info(trials_of([trial("n0", 2, 0.3), trial("n2", 2, 0.2)]), HEADER)
    assert info["ci_low"].isna().all()
    draw_curve(info, HEADER)


def test_forest_is_the_paired_part_of_the_table(trials: pd.DataFrame) -> None:
    table = arm_table(trials, HEADER)
    info = forest_info(table, HEADER)
    assert info["arm"].tolist() == ["n2", "n8"]
    assert info["difference"].tolist() == pytest.approx([-0.1, -0.1])
    (axis,) = draw_forest(info, HEADER).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["n2 (3 pairs)", "n8 (3 pairs)"]
    assert axis.containers[0].lines[0].get_xdata().tolist() == pytest.approx([-0.1, -0.1])
    assert "6 pairs in all" in forest_caption(info, HEADER)
    assert "Arms left of the line do better" in forest_caption(info, HEADER)
    assert "Arms right of the line do better" in forest_caption(info, replace(HEADER, direction="maximize"))
    assert len(forest_info(table, replace(HEADER, baseline=None))) == 0


def test_history_of_a_search() -> None:
    trials = search_trials([(0.3, 0.3), (math.nan, math.nan), (0.1, 0.1), (0.2, 0.2)])
    header = search_header(4)
    info = history_info(trials, header)
    assert info["trial"].tolist() == [1, 3, 4]
    assert info["best_so_far"].tolist() == [0.3, 0.1, 0.1]
    upwards = history_info(trials, replace(header, direction="maximize"))
    assert upwards["best_so_far"].tolist() == [0.3, 0.3, 0.3]
    draw_history(info, "best/mse")
    assert "3 finished trials" in history_caption(info, "best/mse")


def test_each_searched_setting_has_a_panel() -> None:
    trials = search_trials([(0.3, 0.3), (0.1, 0.1), (0.2, 0.2)])
    # A conditional setting that the first trial does not have.
    trials["param/loss.alpha"] = pd.Series([None, 0.5, 40.0], dtype="Float64")
    info = parameter_info(trials, search_header(3))
    assert info["parameter"].unique().tolist() == ["model.n_states", "data.signals", "loss.alpha"]
    assert info.loc[info["parameter"] == "loss.alpha", "position"].tolist() == [0.5, 40.0]
    assert info.loc[info["parameter"] == "data.signals", "setting"].tolist()[:2] == ["h3k27ac", "h3k27ac+dnase"]
    axes = draw_parameters(info, "best/mse").axes
    assert [axis.get_xlabel() for axis in axes] == ["model.n_states", "data.signals", "loss.alpha"]
    assert axes[2].get_xscale() == "log"
    assert "3 finished trials" in parameters_caption(info, "best/mse")


def test_no_figure_is_empty(trials: pd.DataFrame) -> None:
    assert [figure.name for figure in study_figures(trials, arm_table(trials, HEADER), HEADER)] == ["curve", "forest"]
    none = trials.assign(status="FAILED")
    assert study_figures(none, arm_table(none, HEADER), HEADER) == []
    search = search_trials([(math.nan, math.nan), (math.nan, math.nan)])
    assert study_figures(search, study_table(search, search_header(2)), search_header(2)) == []


def test_inline_svg_takes_the_pages_colour_and_has_its_own_ids(trials: pd.DataFrame) -> None:
    figure = draw_curve(curve_info(trials, HEADER), HEADER)
    first, second = inline_svg(figure, "first", 'a "title" <b>'), inline_svg(figure, "second", "b")
    assert first.startswith('<svg role="img" aria-label=')
    assert "currentColor" in first
    assert "#24272c" not in first
    assert "http" not in first.replace("http://www.w3.org", "")
    ids = set(_ids(first))
    assert ids
    assert not ids & set(_ids(second))
    for reference in _references(first):
        assert reference in ids
    assert inline_svg(figure, "first", 'a "title" <b>') == first


def _ids(svg: str) -> list[str]:
    return [part.split('"', 1)[0] for part in svg.split(' id="')[1:]]


def _references(svg: str) -> list[str]:
    links = [part.split('"', 1)[0] for part in svg.split('href="#')[1:]]
    return links + [part.split(")", 1)[0] for part in svg.split("url(#")[1:]]


def test_places_are_found_once_for_all_files_of_a_figure_and_each_is_drawn_once(
    trials: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_found = []
    find = ConstrainedLayoutEngine.execute

    def count(engine: ConstrainedLayoutEngine, figure: Figure) -> object:
        n_found.append(1)
        return find(engine, figure)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", count)
    info = curve_info(trials, HEADER)
    figure = draw_curve(info, HEADER)
    mark = Mark()
    figure.add_artist(mark)
    inline_svg(figure, "curve", "a curve")
    places = [axis.get_position().bounds for axis in figure.axes]
    save_figure(figure, info, tmp_path, "curve", ("png", "pdf"))
    assert [axis.get_position().bounds for axis in figure.axes] == places
    assert n_found == [1]
    assert mark.n_drawn == 3


class Mark(Artist):
    """Counts how often it is drawn, and shows nothing."""

    n_drawn = 0

    def draw(self, renderer: object) -> None:
        self.n_drawn += 1


def test_drawing_leaves_no_trace_in_matplotlib(trials: pd.DataFrame, tmp_path: Path) -> None:
    # The backend's name is resolved when it is first read; that is no setting of ours.
    before = {name: value for name, value in mpl.rcParams.items() if name != "backend"}
    info = curve_info(trials, HEADER)
    files = save_figure(draw_curve(info, HEADER), info, tmp_path / "figures", "curve", ("png", "pdf"))
    assert {name: mpl.rcParams[name] for name in before} == before
    assert [file.name for file in files] == ["curve.csv", "curve.png", "curve.pdf"]
    assert files[1].read_bytes()[:4] == b"\x89PNG"
    assert files[2].read_bytes()[:4] == b"%PDF"
    assert pd.read_csv(files[0], dtype=str)["value"].map(float).tolist() == info["value"].tolist()
    import sys

    assert "matplotlib.pyplot" not in sys.modules or mpl.pyplot.get_fignums() == []
