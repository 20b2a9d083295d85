from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prism_ray.errors import InputError
from prism_ray.report.build import write_report
from prism_ray.report.files import formats_of
from prism_ray.report.published import published_for, published_rows
from prism_ray.tracking import Expected, MlflowTracker, StudyHeader, TrialHeader, fetch_study
from prism_ray.tracking.client import connect
from tests.tracking_support import STUDY, fresh_store, track_study, trial_header

HEADER = replace(STUDY, arms=("n0", "n1", "n2"), seeds=(2, 22, 222), n_trials=9)
VALUES = {"n0": [0.20, 0.22, 0.24], "n1": [0.21, 0.22, 0.25], "n2": [0.19, 0.20, 0.23]}


def _runs(header: StudyHeader = HEADER) -> list[tuple[TrialHeader, Mapping[str, float], str]]:
    return [
        (
            trial_header(arm, seed, study=header, tags={"prism.device": "cpu" if arm == "n0" else "NVIDIA H100"}),
            {
                "test/mse": value,
                "test/mae": value + 0.1,
                "test/pearson_r": 1 - value,
                "best/mse": value,
                "cost/train_s": 90.0,
            },
            "FINISHED",
        )
        for arm in header.arms
        for seed, value in zip(header.seeds, VALUES[arm], strict=True)
    ]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return fresh_store(tmp_path / "store")


class _Page(HTMLParser):
    """Cells of every table, whole text, and every address of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.addresses: list[str] = []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.rows[-1].append("")
        self.addresses += [value for name, value in attributes if name in ("src", "href") and value is not None]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data


def test_report_says_what_was_computed_by_hand(uri: str, tmp_path: Path) -> None:
    parent = track_study(uri, HEADER, _runs())
    result = write_report(uri, HEADER.name, tmp_path / "out")
    page = _Page(result.html.read_text())
    # n2 - n0: -0.01, -0.02, -0.01; mean -0.01333, std 0.0057735, t(0.975, 2) = 4.30265; n1 - n0: 0.01, 0, 0.01.
    assert page.rows[0][4:] == [
        "mean ± std",
        "95 % interval",
        "pairs",
        "difference",
        "95 % interval of it",
        "effect size",
        "p (Holm)",
        "training",
        "one-standard-error rule",
    ]
    assert page.rows[1][:6] == ["n0", "3 of 3", "0", "0", "0.2200 ± 0.0200", "[0.1703, 0.2697]"]
    assert page.rows[1][6:] == ["baseline", "", "", "", "", "1.5 min", ""]
    assert page.rows[3][:6] == ["n2", "3 of 3", "0", "0", "0.2067 ± 0.0208", "[0.1550, 0.2584]"]
    # Paired t of n2: -4, p = 0.05719, twice that after Holm; n1: t = 2, p = 0.18350. Hedges' g: t / sqrt(3) times
    # gamma(1) / (sqrt(1) gamma(1/2)) = 0.5642.
    assert page.rows[3][6:] == ["3", "-0.0133", "[-0.0277, 0.0010]", "-1.30", "0.114", "1.5 min", "chosen"]
    assert page.rows[2][6:-1] == ["3", "+0.0067", "[-0.0077, 0.0210]", "+0.65", "0.184", "1.5 min"]
    assert page.text.index(HEADER.question) < page.text.index("Lowest mean test/mse: n2")
    for fact in (HEADER.study_digest, HEADER.data_digest, "c" * 40, HEADER.command, parent, "2, 22, 222", "fold_1"):
        assert fact in page.text
    assert "9 of 9 planned trials finished; 0 failed, 0 running, 0 not started." in page.text
    assert result.table["mean"].tolist() == pytest.approx([np.mean(VALUES[arm]) for arm in HEADER.arms])
    assert "[-0.0277, 0.0010]" in result.text


def test_page_needs_nothing_from_outside(uri: str, tmp_path: Path) -> None:
    track_study(uri, HEADER, _runs())
    html = write_report(uri, HEADER.name, tmp_path / "out").html.read_text()
    page = _Page(html)
    assert all(address.startswith("#") for address in page.addresses)
    assert html.count("<svg") == 2
    assert html.count("<figcaption>") == 2
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    for outside in ("<script", "<link", "@import", "src=", "url(http"):
        assert outside not in html


def test_answer_is_on_the_parent_run(uri: str, tmp_path: Path) -> None:
    parent = track_study(uri, HEADER, _runs())
    result = write_report(uri, HEADER.name, tmp_path / "out")
    client = connect(uri)
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["arm/n2/test_mse_mean"] == pytest.approx(np.mean(VALUES["n2"]))
    assert run.data.metrics["arm/n2/test_mse_difference"] == pytest.approx(-0.04 / 3)
    note = run.data.tags["mlflow.note.content"]
    assert note == (tmp_path / "out" / "report.md").read_text()
    assert "| n2 | 3 of 3 | 0 | 0 | 0.2067 ± 0.0208 | [0.1550, 0.2584] | 3 | -0.0133 |" in note
    kept = {file.path for file in client.list_artifacts(parent, "report")}
    kept |= {file.path for file in client.list_artifacts(parent, "report/figures")}
    assert {f"report/{file.relative_to(tmp_path / 'out')}" for file in result.files} <= kept
    # Once more: the same files, the same run, nothing doubled.
    again = write_report(uri, HEADER.name, tmp_path / "out")
    assert again.files == result.files
    assert fetch_study(uri, HEADER.name).run_id == parent


def test_files_hold_the_numbers(uri: str, tmp_path: Path) -> None:
    track_study(uri, HEADER, _runs())
    result = write_report(uri, HEADER.name, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "table.csv", dtype=str)  # pandas before 3 may miss the nearest number
    means = table["mean"].map(float).tolist()
    assert means == result.table["mean"].tolist()
    assert len(pd.read_csv(tmp_path / "out" / "trials.csv")) == 9
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["results_schema"] == 1
    assert [row["mean"] for row in results["table"]] == pytest.approx(means)
    assert len(results["provenance"]["run_ids"]) == 9
    assert results["provenance"]["hardware"] == ["NVIDIA H100", "cpu"]
    assert "NVIDIA H100, cpu" in _Page(result.html.read_text()).text
    assert results["provenance"]["versions"]["mlflow"] != "not installed"


def test_formats_are_written_as_asked(uri: str, tmp_path: Path) -> None:
    track_study(uri, HEADER, _runs())
    result = write_report(uri, HEADER.name, tmp_path / "out", formats=formats_of("csv, tex"))
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"table.csv", "trials.csv", "table.tex", "results.json", "figures"}
    assert {file.suffix for file in (tmp_path / "out" / "figures").iterdir()} == {".csv", ".png", ".pdf"}
    assert result.files[0] == tmp_path / "out" / "table.csv"
    args = _arguments(HEADER.name, "--tracking-uri", uri, "--out", str(tmp_path / "page"), "--format", "html")
    assert args.command(args) == 0
    assert {file.name for file in (tmp_path / "page").iterdir()} == {"report.html", "results.json", "figures"}
    with pytest.raises(InputError) as caught:
        formats_of("html,pdf,")
    assert str(caught.value).startswith("2 faults:\n  --format: 'pdf' is no format of a report; use one of csv, html,")


def test_claims_are_judged_first(uri: str, tmp_path: Path) -> None:
    claims = (Expected("n2", "n0", "better"), Expected("n1", "n0", "same", 0.05))
    track_study(uri, replace(HEADER, expectations=claims), _runs())
    result = write_report(uri, HEADER.name, tmp_path / "out")
    assert result.answer.startswith("Verdict: inconclusive. Of 2 declared claims: 1 supported, 1 inconclusive.")
    page = _Page(result.html.read_text())
    assert page.rows[1][:3] == ["n2 is better than n0", "inconclusive", "3"]
    assert page.rows[2][:3] == ["n1 does as n0 (margin 0.05)", "supported", "3"]
    note = (tmp_path / "out" / "report.md").read_text()
    assert "| n1 does as n0 (margin 0.05) | supported | 3 |" in note
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["verdict"] for row in results["verdicts"]] == ["inconclusive", "supported"]
    assert not any("Claims were changed" in text for text in result.notes)
    # A claim made up after the runs is told from one that was there before.
    track_study(uri, replace(HEADER, expectations=claims[:1]), [])
    assert any("Claims were changed" in text for text in write_report(uri, HEADER.name, tmp_path / "out").notes)


def test_a_table_for_a_paper(uri: str, tmp_path: Path) -> None:
    track_study(uri, HEADER, _runs())
    write_report(uri, HEADER.name, tmp_path / "out")
    lines = (tmp_path / "out" / "table.tex").read_text().splitlines()
    assert any(line.startswith(r"n2 & 3 of 3 & 0 & 0 & 0.2067 $\pm$ 0.0208 &") for line in lines)
    assert r"\label{tab:confounder-count}" in lines


def test_what_is_missing_is_in_plain_sight(uri: str, tmp_path: Path) -> None:
    runs = _runs()
    runs[3] = (runs[3][0], {}, "FAILED")
    runs[4] = (runs[4][0], {}, "RUNNING")
    track_study(uri, HEADER, runs[:-1], status="RUNNING")
    open_result = write_report(uri, HEADER.name, tmp_path / "out")
    assert "6 of 9 planned trials finished; 1 failed, 1 running, 1 not started." in open_result.text
    assert "The study is not complete" in open_result.text
    row = open_result.table.set_index("arm").loc["n1"]
    assert row[["n_finished", "n_failed", "n_running"]].tolist() == [1, 1, 1]
    # Once the study has ended, a run left open belongs to a process that died.
    MlflowTracker(uri).close_study(fetch_study(uri, HEADER.name).run_id, "FAILED", {})
    ended = write_report(uri, HEADER.name, tmp_path / "out")
    assert "2 failed, 0 running, 1 not started." in ended.text


def test_mixtures_other_launches_and_changed_sources_are_said(uri: str, tmp_path: Path) -> None:
    track_study(uri, replace(HEADER, study_digest="e" * 64), [])
    runs = _runs()
    runs[0] = (replace(runs[0][0], tags={"prism.git_commit": "d" * 40}), *runs[0][1:])
    # The parent's commit is its default; a trial's own wins.
    track_study(uri, replace(HEADER, tags={"prism.git_commit": "c" * 40, "prism.git_dirty": "true"}), runs)
    notes = " ".join(write_report(uri, HEADER.name, tmp_path / "out").notes)
    assert "The trials come from 2 source commits: cccccccccccc, dddddddddddd." in notes
    assert "1 other launches of this name" in notes
    assert "The source had uncommitted changes" in notes


def test_text_of_a_study_cannot_break_the_page(uri: str, tmp_path: Path) -> None:
    header = replace(HEADER, question="Is <script>alert(1)</script> & more?", claim='"<b>"')
    track_study(uri, header, _runs(header))
    html = write_report(uri, header.name, tmp_path / "out").html.read_text()
    assert "<script>" not in html
    assert "Is &lt;script&gt;alert(1)&lt;/script&gt; &amp; more?" in html


def test_search_lists_its_best_trials(uri: str, tmp_path: Path) -> None:
    header = replace(
        HEADER, name="joint_search", kind="search", baseline=None, arms=("search",), curve=None, n_trials=3
    )
    runs = []
    for index, (best, signals) in enumerate([(0.3, ["h3k27ac"]), (0.1, ["h3k27ac", "dnase"]), (0.2, ["dnase"])]):
        parameters = {"model.n_states": index, "data.signals": signals, "seed": 2}
        trial = trial_header("search", study=header, trial_id=f"trial-{index}", parameters=parameters)
        runs.append((trial, {"best/mse": best, "test/mse": best + 0.01}, "FINISHED"))
    parent = track_study(uri, header, runs)
    result = write_report(uri, "joint_search", tmp_path / "out")
    page = _Page(result.html.read_text())
    assert page.rows[1] == ["1", "trial-1", "K562", "2", "fold_1", "0.1000", "0.1100", "h3k27ac+dnase", "1"]
    assert result.html.read_text().count("<svg") == 3
    assert connect(uri).get_run(parent).data.metrics == {"search/best_mse_best": 0.1}


def test_published_numbers_stand_beside_the_same_data_and_fold_only(uri: str, tmp_path: Path) -> None:
    header = replace(HEADER, benchmark="geneexp", folds=("fold_11",))
    track_study(uri, header, _runs(header))
    page = _Page(write_report(uri, header.name, tmp_path / "out").html.read_text())
    ours = next(row for row in page.rows if row[0] == "this study: n2")
    assert ours[1:] == ["0.2067 ± 0.0208", "0.3067 ± 0.0208", "0.7933 ± 0.0208", "this study, fold_11"]
    for file in ("report.md", "table.tex"):
        assert "Prism n=2, 2 kb" in (tmp_path / "out" / file).read_text()
    beside = pd.read_csv(tmp_path / "out" / "published_K562.csv")
    ours = [f"this study: {arm}" for arm in header.arms]
    assert beside["model"].tolist()[:4] == [*ours, "Enformer, from scratch, 200 kb"]
    prism = next(row for row in page.rows if row[0] == "Prism n=2, 2 kb")
    assert prism[1:] == ["0.1789 ± 0.0041", "not known", "0.8751", "published, fold_11, arXiv 2602.21550"]
    for other in (
        replace(header, benchmark=None),
        replace(header, folds=("fold_1",)),
        replace(header, folds=("fold_11", "fold_12")),
    ):
        assert len(published_for(other, "K562")) == 0
    assert len(published_for(header, "H1")) == 0


def test_published_rows_are_complete() -> None:
    rows = published_rows()
    assert (rows["source"] == "arXiv 2502.13991").sum() == 18
    assert rows[["benchmark", "fold", "kind", "cell_type", "model", "source"]].notna().all(axis=None)
    prism = rows[(rows["cell_type"] == "K562") & rows["n_states"].notna()]
    by_states = dict(zip(prism["n_states"], prism["mse"], strict=True))
    assert by_states == {0: 0.1863, 1: 0.1891, 2: 0.1789, 4: 0.1762}
    removed = published_for(replace(HEADER, kind="evaluation", benchmark="geneexp", folds=("fold_11",)), "K562")
    assert removed[["mae", "mse"]].to_numpy().tolist() == [["0.3078", "not known"], ["0.5653", "not known"]]
    gm12878 = published_for(replace(HEADER, benchmark="geneexp", folds=("fold_11",)), "GM12878").set_index("model")
    assert gm12878.loc["Seq2Exp-soft 200 kb", ["mse", "mae", "pearson_r"]].tolist() == [
        "0.1873 ± 0.0044",
        "0.3137 ± 0.0028",
        "0.8951 ± 0.0038",
    ]
    assert gm12878.loc["Prism n=2, 2 kb", "mse"] == "0.1759"


def _arguments(*given: str) -> argparse.Namespace:
    from prism_ray.cli import report

    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    return parser.parse_args(["report", *given])


def test_command_prints_the_table(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track_study(uri, HEADER, _runs())
    args = _arguments(HEADER.name, "--tracking-uri", uri, "--out", str(tmp_path / "out"))
    assert args.command(args) == 0
    printed = capsys.readouterr().out
    assert "Lowest mean test/mse: n2" in printed
    assert "[-0.0277, 0.0010]" in printed
    assert f"report: {tmp_path}/out/report.html" in printed


def test_command_in_a_terminal_keeps_brackets(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    track_study(uri, HEADER, _runs()[:-1])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    args = _arguments(HEADER.name, "--tracking-uri", uri, "--out", str(tmp_path / "out"))
    assert args.command(args) == 0
    printed = capsys.readouterr().out
    assert "[0.1703, 0.2697]" in printed
    assert "The study is not complete" in printed


def test_command_finds_store_and_folder_by_the_storage(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track_study(uri, HEADER, _runs())
    args = _arguments(HEADER.name, "--storage", str(tmp_path / "store"))
    assert args.command(args) == 0
    assert (tmp_path / "store" / "reports" / HEADER.name / "report.html").exists()
