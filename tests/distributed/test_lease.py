"""One process at a time in a folder: leases that are free, held, given back, dead, frozen and lost."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from prism_ray.config import RunConfig
from prism_ray.distributed import claim as claim_module
from prism_ray.distributed.attempts import begin_attempt, read_attempts
from prism_ray.distributed.claim import LEASE_NAME, TrialClaim, claim_trial
from prism_ray.distributed.driver import only_driver
from prism_ray.distributed.lease import Holder, Lease, LeaseLostError, read_holder, take_lease
from prism_ray.distributed.stop_request import request_stop
from prism_ray.distributed.workspace import study_folder
from prism_ray.errors import BusyError, InputError
from prism_ray.training.preemption import RunInterruptedError


def at_once(holder: Holder | None) -> bool:
    return True


def never(holder: Holder | None) -> bool:
    return False


def write(path: Path, **changes: object) -> Holder:
    """A lease file that this process left, with changes."""
    holder = dataclasses.replace(Holder.this_process("test"), **changes)  # type: ignore[arg-type]
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    return holder


def test_it_is_taken_kept_fresh_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    lease = take_lease(path, "mine", waited_enough=at_once, beat_s=0.05)
    assert lease is not None
    with lease:
        lease.check()
        holder = read_holder(path)
        assert holder is not None
        assert (holder.pid, holder.purpose) == (os.getpid(), "mine")
        first = path.stat().st_mtime_ns
        end = time.monotonic() + 5
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < end, "no sign of life"
            time.sleep(0.02)
        assert take_lease(path, "another", waited_enough=at_once) is None
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    write(path, pid=process.pid)
    started = time.monotonic()
    lease = take_lease(path, "mine", waited_enough=never, stale_s=60)
    assert time.monotonic() - started < 60, "it waited for a sign of life"
    assert lease is not None
    lease.__exit__()
    # A number that was given to another process since.
    write(path, process_started=1.0)
    again = take_lease(path, "mine", waited_enough=at_once, stale_s=60)
    assert again is not None
    again.__exit__()


@pytest.mark.parametrize("content", ["elsewhere", "", "{"])
def test_one_that_nobody_can_see_is_replaced_when_it_gives_no_sign_of_life(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lease.json"
    path.write_text(content)
    if content == "elsewhere":
        write(path, place="another machine", pid=1)
    started = time.monotonic()
    lease = take_lease(path, "mine", waited_enough=never, stale_s=0.6)
    assert time.monotonic() - started > 0.5
    assert lease is not None
    lease.__exit__()
    assert list(tmp_path.iterdir()) == []


def test_one_that_beats_elsewhere_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    holder = write(path, place="another machine", pid=1)
    with Lease(path, holder, beat_s=0.1):
        until = time.monotonic() + 1.2
        lease = take_lease(path, "mine", waited_enough=lambda _: time.monotonic() > until, stale_s=0.6)
    assert lease is None


def test_who_was_frozen_and_lost_it_is_told_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    frozen = take_lease(path, "frozen", waited_enough=at_once, beat_s=60)
    assert frozen is not None
    write(path, token="of another")
    with pytest.raises(LeaseLostError, match="was taken over by test, process"), frozen:
        frozen.check()
    holder = read_holder(path)
    assert holder is not None
    assert holder.token == "of another"


def _contend(path: Path, marks: Path, seed: int) -> None:
    time.sleep(random.Random(seed).uniform(0, 0.02))
    lease = take_lease(path, f"contender {seed}", waited_enough=never, stale_s=60)
    assert lease is not None
    with lease:
        (marks / "inside").open("x").close()  # fails where another is inside
        time.sleep(0.05)
        (marks / "inside").unlink()
    (marks / f"done-{seed}").touch()


def test_of_many_that_want_a_dead_ones_place_one_is_inside_at_a_time(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    write(tmp_path / "lease.json", process_started=1.0)
    context = multiprocessing.get_context("fork")
    contenders = [context.Process(target=_contend, args=(tmp_path / "lease.json", marks, seed)) for seed in range(6)]
    for contender in contenders:
        contender.start()
    for contender in contenders:
        contender.join(60)
    assert [contender.exitcode for contender in contenders] == [0] * 6
    assert {mark.name for mark in marks.iterdir()} == {f"done-{seed}" for seed in range(6)}


def test_a_claimed_trial_ends_when_its_study_is_told_to(tmp_path: Path) -> None:
    study = tmp_path / "study"
    claim = claim_trial(tmp_path / "trial", "test", study)
    assert isinstance(claim, TrialClaim)
    with claim:
        assert not claim.end_asked()
        request_stop(study, "enough")
        end = time.monotonic() + 5
        while not claim.end_asked():
            assert time.monotonic() < end, "not noticed"
            time.sleep(0.05)
        # Another that waits for the trial is told as well.
        with pytest.raises(RunInterruptedError, match="told to end while another process trains the trial"):
            claim_trial(tmp_path / "trial", "another", study)
    assert not (tmp_path / "trial" / LEASE_NAME).exists()


def test_what_dies_between_its_record_and_its_end_is_tidied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "trial"
    folder.mkdir()
    begin_attempt(folder, "s", "launch", node="", gpus=0, first_step=0)
    write(folder / LEASE_NAME, process_started=1.0)
    (folder / "checkpoint.pt").touch()
    (folder / "result.json").touch()
    record = SimpleNamespace(config=RunConfig())
    monkeypatch.setattr(claim_module, "read_record", lambda folder: record)
    assert claim_trial(folder, "test", None) is record
    assert {file.name for file in folder.iterdir()} == {"attempts.json", "result.json"}
    (attempt,) = read_attempts(folder)
    assert (attempt.how, attempt.last_step) == ("finished", RunConfig().training.n_steps)


def test_nothing_is_left_of_a_lease_that_a_full_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)
        with pytest.raises(OSError, match="No space left"):
            take_lease(tmp_path / "lease.json", "mine", waited_enough=never)
    assert list(tmp_path.iterdir()) == []


HOLDS = """
import sys, time
from pathlib import Path
from prism_ray.distributed.driver import only_driver
with only_driver(Path(sys.argv[1]), "s"):
    print("inside", flush=True)
    time.sleep(600)
"""


def test_a_second_driver_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "s"
    first = subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "inside\n"
        with pytest.raises(BusyError) as refused, only_driver(folder, "s"):
            pass
        assert f"study s: is being run already (study s, process {first.pid} on " in str(refused.value)
        assert "prism-ray cancel s" in str(refused.value)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with only_driver(folder, "s"):
        assert (folder / "driver.json").exists()
    assert not folder.parent.exists(), "nothing that is empty is left"


def test_a_driver_elsewhere_is_refused_while_it_beats(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "s"
    folder.mkdir(parents=True)
    holder = write(folder / "driver.json", place="another machine", host="node7")
    with Lease(folder / "driver.json", holder, beat_s=0.1):
        with pytest.raises(BusyError, match="on node7, since"), only_driver(folder, "s"):
            pass


@pytest.mark.parametrize("name", ["workspace", "workspace/below"])
def test_a_workspace_that_cannot_be_made_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "workspace").write_text("a file")
    said = rf"--storage {tmp_path / name}: cannot be written \(Not a directory\); give a folder that you may write"
    with pytest.raises(InputError, match=said), only_driver(study_folder(tmp_path / name, "s"), "s"):
        raise AssertionError("it was made")
