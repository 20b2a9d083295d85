"""How the command ends: exit codes, what is said on the way out, and output that nobody can take."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import prism_ray
from prism_ray.cli import main, simulate
from prism_ray.errors import Fault, FaultList, InputError, MissingDependencyError, TrackingError, TrainingError
from tests.conftest import REPOSITORY
from tests.store.factory import Recipe, make_store

COMMAND = [sys.executable, "-m", "prism_ray"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def two_faults() -> InputError:
    faults = FaultList()
    faults.add("a.yaml:3: x", "is wrong", "mend it")
    faults.add("a.yaml:4: y", "is missing")
    try:
        faults.raise_if_any(InputError)
    except InputError as problem:
        return problem
    raise AssertionError("unreachable")


ENDS: list[tuple[BaseException | int, int, str]] = [
    (0, 0, ""),
    (1, 1, ""),
    (two_faults(), 2, "prism-ray simulate: 2 faults:\n  a.yaml:3: x: is wrong; mend it\n  a.yaml:4: y: is missing\n"),
    (TrackingError("no server", [Fault("a", "b")]), 2, "prism-ray simulate: no server\n"),
    (MissingDependencyError("needs x"), 2, "prism-ray simulate: needs x\n"),
    (TrainingError("the loss is nan"), 1, "prism-ray simulate: the loss is nan\n"),
    (KeyboardInterrupt(), 130, "prism-ray simulate: interrupted; the same command goes on where it stopped\n"),
    (
        PermissionError(errno.EACCES, "Permission denied", "/data/x.bw"),
        2,
        "prism-ray simulate: /data/x.bw: Permission denied\n",
    ),
    # A write does not know its file's name: the folder that the command writes is named.
    (OSError(errno.ENOSPC, "No space left on device"), 2, "prism-ray simulate: OUT: No space left on device\n"),
    (OSError("something odd"), 2, "prism-ray simulate: OUT: something odd\n"),
]


@pytest.mark.parametrize(("end", "code", "said"), ENDS, ids=lambda value: type(value).__name__)
def test_exit_codes_and_words(
    end: BaseException | int, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(simulate, "run", run)
    assert main(["simulate", "OUT"]) == code
    assert capsys.readouterr() == ("", said)


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object) -> int:
        raise KeyError("ours")

    monkeypatch.setattr(simulate, "run", run)
    with pytest.raises(KeyError):
        main(["simulate", "OUT"])


def test_a_pipe_that_breaks_elsewhere_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(simulate, "run", run)
    assert main(["simulate", "OUT"]) == 2
    assert capfd.readouterr().err == "prism-ray simulate: OUT: Broken pipe\n"


def test_module_and_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"prism-ray {prism_ray.__version__}\n", "")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exit") / "store"
    make_store(out, Recipe(window_bp=200))
    return out


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["--help"], ["store", "info"]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_fault(command: list[str], unbuffered: str, store: Path) -> None:
    argv = [*COMMAND, *command, *([str(store)] if command[0] == "store" else [])]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        argv,
        env={**ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_head_takes_one_line(store: Path) -> None:
    line = f"set -o pipefail; {' '.join(COMMAND)} store info {store} | head -1"
    done = subprocess.run(["bash", "-c", line], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{store}: made")
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_said(store: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "store", "info", str(store)],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert re.fullmatch(r"prism-ray store: .*standard output: No space left on device\n", done.stderr)


def test_a_disk_that_fills_up_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: both fail in the middle of a write."""
    done = subprocess.run(
        [*COMMAND, "simulate", str(tmp_path / "genome"), "--genes", "24", "--chromosomes", "6"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert (done.returncode, done.stderr) == (2, f"prism-ray simulate: {tmp_path / 'genome'}: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_middle_of_work(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "simulate", str(tmp_path / "genome"), "--genes", "20000"],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests themselves run in the background of a shell, they ignore it, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (
        130,
        "prism-ray simulate: interrupted; the same command goes on where it stopped\n",
    )
    assert list(tmp_path.iterdir()) == []
