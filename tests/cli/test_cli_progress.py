"""Progress of a study: plain lines in a log, a bar on a terminal, right counts in both."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from prism_ray.cli.progress import Shown, StudyProgress
from prism_ray.cli.running import outcome_lines
from prism_ray.distributed.launch import StudyOutcome
from prism_ray.distributed.time_left import TimeLeft

SHOWN = Shown(metric="val/mse", direction="minimize", report_metric="test/mse")


def tell(progress: StudyProgress) -> None:
    with progress:
        progress.begin(6, 2)
        progress.started("n0 seed 2 fold_1")
        progress.started("n[2] seed 2 fold_1")
        progress.finished("n0 seed 2 fold_1", {"val/mse": float("nan"), "test/mse": 0.1})
        progress.started("n[2] seed 2 fold_1")
        progress.finished("n[2] seed 2 fold_1", {"val/mse": 0.25, "test/mse": 0.5})
        progress.failed("n4 seed 2 fold_1", "the loss is [nan]")
        progress.started("n4 seed 22 fold_1")
        progress.finished("n4 seed 22 fold_1", {"val/mse": 0.375, "test/mse": 0.125})


def test_a_log_has_plain_lines_on_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    tell(StudyProgress(SHOWN))
    said = capsys.readouterr()
    assert said.out == ""
    assert re.sub(r"(in|after) \d+ s:", r"\1 0 s:", said.err).splitlines() == [
        "6 trials, 2 of them ended before",
        "         n0 seed 2 fold_1 started",
        "         n[2] seed 2 fold_1 started",
        "[  3/6] n0 seed 2 fold_1 finished in 0 s: val/mse nan, test/mse 0.1000",
        "         3 done, 1 running",
        "         n[2] seed 2 fold_1 started again",
        "[  4/6] n[2] seed 2 fold_1 finished in 0 s: val/mse 0.2500, test/mse 0.5000",
        "         4 done, 0 running, best val/mse 0.2500 (n[2] seed 2 fold_1)",
        "[  5/6] n4 seed 2 fold_1 FAILED after 0 s: the loss is [nan]",
        "         4 done, 0 running, 1 failed, best val/mse 0.2500 (n[2] seed 2 fold_1)",
        "         n4 seed 22 fold_1 started",
        # Better on the test genes, which choose nothing.
        "[  6/6] n4 seed 22 fold_1 finished in 0 s: val/mse 0.3750, test/mse 0.1250",
        "         5 done, 0 running, 1 failed, best val/mse 0.2500 (n[2] seed 2 fold_1)",
    ]


def test_the_best_is_in_the_studys_own_direction(capsys: pytest.CaptureFixture[str]) -> None:
    with StudyProgress(Shown(metric="val/pearson_r", direction="maximize", report_metric="val/pearson_r")) as progress:
        progress.begin(3, 0)
        for label, value in (("a", 0.5), ("b", 0.75), ("c", 0.25)):
            progress.finished(label, {"val/pearson_r": value, "test/mse": 0.0})
    said = capsys.readouterr().err
    assert "a finished in 0 s: val/pearson_r 0.5000\n" in said
    assert said.splitlines()[-1].strip() == "3 done, 0 running, best val/pearson_r 0.7500 (b)"


def test_the_time_left_is_looked_up_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("prism_ray.cli.progress.time.monotonic", lambda: now[0])
    looks = []

    def left() -> TimeLeft | None:
        looks.append(now[0])
        now[0] += 2.0  # of a study of many trials
        return None if len(looks) == 1 else TimeLeft(330.0, "wall_hours" if len(looks) > 2 else "")

    with StudyProgress(Shown("val/mse", "minimize", "test/mse", left=left)) as progress:
        progress.begin(6, 0)
        for pause in (0.0, 30.0, 15.0, 30.0, 100.0, 100.0):
            now[0] += pause
            progress.finished("a", {"val/mse": 0.5})
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if " done, " in line]
    best = "0 running, best val/mse 0.5000 (a)"
    assert lines == [
        f"1 done, {best}",
        # A look that took two seconds is not made again for 40.
        f"2 done, {best}",
        f"3 done, {best}, about 5 min 30 s left",
        f"4 done, {best}, about 5 min left",
        f"5 done, {best}, about 5 min 30 s left, when budget.wall_hours ends the launch",
        f"6 done, {best}",
    ]
    assert len(looks) == 3


def test_networks_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    StudyProgress(SHOWN).announce(["n[2]  caduceus, 585,681 parameters"])
    assert capsys.readouterr().err == "network  n[2]  caduceus, 585,681 parameters\n"


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StudyProgress(SHOWN)
    with progress:
        progress.begin(1, 0)
        progress.failed("n0", "word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_terminal_has_a_bar_with_the_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    tell(StudyProgress(SHOWN))
    said = terminal.getvalue()
    # A value that is no number is not the best one.
    assert "1 failed, best val/mse 0.2500" in said
    assert "best val/mse nan" not in said
    assert "6/6" in said
    assert "started" not in said


def test_the_summary_counts_pruned_trials_among_those_that_ended_before() -> None:
    outcome = StudyOutcome("s", 14, 10, 8, {}, (), None, "", "", n_pruned=6)
    assert outcome_lines(outcome) == [
        "8 of 14 trials are finished",
        "6 more were stopped by the search, as worse than others (10 of both before this launch)",
    ]
    assert outcome_lines(replace(outcome, n_pruned=0)) == ["8 of 14 trials are finished (10 before this launch)"]
