"""Progress of a study: plain lines in a log, a bar on a terminal, right counts in both."""

from __future__ import annotations

import io
import re

import pytest

from prism_ray.cli.progress import StudyProgress


def tell(progress: StudyProgress) -> None:
    with progress:
        progress.begin(5, 2)
        progress.started("n0 seed 2 fold_1")
        progress.started("n[2] seed 2 fold_1")
        progress.finished("n0 seed 2 fold_1", {"test/mse": float("nan")})
        progress.started("n[2] seed 2 fold_1")
        progress.finished("n[2] seed 2 fold_1", {"test/mse": 0.25})
        progress.failed("n4 seed 2 fold_1", "the loss is [nan]")


def test_a_log_has_plain_lines_on_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    tell(StudyProgress())
    said = capsys.readouterr()
    assert said.out == ""
    assert re.sub(r"(in|after) \d+ s:", r"\1 0 s:", said.err).splitlines() == [
        "5 trials, 2 of them finished before",
        "         n0 seed 2 fold_1 started",
        "         n[2] seed 2 fold_1 started",
        "[  3/5] n0 seed 2 fold_1 finished in 0 s: test/mse nan",
        "         n[2] seed 2 fold_1 started again",
        "[  4/5] n[2] seed 2 fold_1 finished in 0 s: test/mse 0.2500",
        "[  5/5] n4 seed 2 fold_1 FAILED after 0 s: the loss is [nan]",
    ]


def test_networks_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    StudyProgress().announce(["n[2]  caduceus, 585,681 parameters"])
    assert capsys.readouterr().err == "network  n[2]  caduceus, 585,681 parameters\n"


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    progress = StudyProgress()
    with progress:
        progress.begin(1, 0)
        progress.failed("n0", "word " * 100)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_terminal_has_a_bar_with_the_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    tell(StudyProgress())
    said = terminal.getvalue()
    # A value that is no number is not the best one.
    assert "best 0.2500, 1 failed" in said
    assert "best nan" not in said
    assert "5/5" in said
    assert "started" not in said
