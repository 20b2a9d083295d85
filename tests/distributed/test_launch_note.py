"""`launch.json` and `progress.json`: written whole, read back, refused in words."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.distributed import launch_note as module
from prism_ray.distributed import progress_note
from prism_ray.distributed.launch_note import (
    MoreTrials,
    TrialNote,
    copy_of_study,
    note_slots,
    read_launch,
    write_launch,
)
from prism_ray.distributed.progress_note import ProgressWriter, read_progress
from prism_ray.distributed.workspace import write_whole
from prism_ray.errors import InputError
from tests.distributed.workspaces import NOTE, launch


def test_a_launch_comes_back_with_its_study(tmp_path: Path) -> None:
    note = launch(tmp_path, 3, overrides={"data.signals": ["dnase"], "optimizer.learning_rate": 0.5})
    assert read_launch(tmp_path, "tiny") == note
    assert copy_of_study(tmp_path, note) == tmp_path / "studies" / "tiny" / "tiny.yaml"
    assert copy_of_study(tmp_path, note).read_text() == note.study_text


def test_how_many_run_at_once_is_added_when_the_cluster_is_known(tmp_path: Path) -> None:
    note = launch(tmp_path, 3)
    note_slots(tmp_path, "tiny", 7)
    assert read_launch(tmp_path, "tiny") == replace(note, n_concurrent=7)


def test_a_launch_that_cannot_be_noted_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = launch(tmp_path, 2)
    real = module.write_whole

    def full(path: Path, text: str, **how: bool) -> None:
        if path.name == "launch.json":
            raise OSError("No space left on device")
        real(path, text, **how)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(OSError, match="No space"):
        write_launch(tmp_path, replace(before, pid=7))
    assert read_launch(tmp_path, "tiny") == before


def test_trials_that_become_known_later_are_noted_once(tmp_path: Path) -> None:
    launch(tmp_path, 1, kind="search", n_trials=9)
    later = TrialNote("abc", "proposal-1", 100)
    for _ in range(2):
        more = MoreTrials(tmp_path, "tiny")
        more.add(later)
        more.add(later)
    path = tmp_path / "studies" / "tiny" / "trials.jsonl"
    assert len(path.read_text().splitlines()) == 1
    # The driver was killed in the middle of a line.
    path.write_text(path.read_text() + '["def", "prop')
    assert [trial.trial_id for trial in read_launch(tmp_path, "tiny").trials] == ["t0", "abc"]


def test_what_the_last_launch_noted_of_a_trial_comes_before_what_an_earlier_one_did(tmp_path: Path) -> None:
    launch(tmp_path, 0)
    MoreTrials(tmp_path, "tiny").add(TrialNote("abc", "proposal-1", 100))
    measured = TrialNote("abc", "proposal-1", 100, planned_s=7.0)
    launch(tmp_path, 0, trials=(measured,))
    MoreTrials(tmp_path, "tiny").add(TrialNote("abc", "proposal-1", 100, planned_s=9.0))
    assert read_launch(tmp_path, "tiny").trials == (measured,)


def test_a_note_from_before_finalists_were_foreseen_is_read(tmp_path: Path) -> None:
    note = launch(tmp_path, 1)
    path = tmp_path / "studies" / "tiny" / "launch.json"
    content = json.loads(path.read_text())
    for name in ("n_finalists", "finalist_steps", "launch_id", "n_concurrent"):
        del content[name]
    content["trials"] = [trial[:3] for trial in content["trials"]]
    path.write_text(json.dumps(content))
    assert read_launch(tmp_path, "tiny") == replace(note, launch_id="")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("nonsense", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 99}', "was written by another version of prism-ray"),
        ('{"version": 1, "study": "tiny"}', "does not hold just"),
    ],
)
def test_a_damaged_note_is_refused(tmp_path: Path, content: str, said: str) -> None:
    launch(tmp_path, 1)
    path = tmp_path / "studies" / "tiny" / "launch.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as refused:
        read_launch(tmp_path, "tiny")
    assert str(path) in str(refused.value)
    assert "run the study's file again" in str(refused.value)


def test_what_was_never_run_is_said_with_what_was(tmp_path: Path) -> None:
    launch(tmp_path, 1)
    write_launch(tmp_path, replace(NOTE, study="confounder_count"))
    with pytest.raises(InputError, match="has no study 'confounder_coutn' that was run") as refused:
        read_launch(tmp_path, "confounder_coutn")
    assert "use one of confounder_count, tiny. Did you mean 'confounder_count'?" in str(refused.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no study was run in it; is it the --storage of the run"):
        read_launch(tmp_path / "empty", "tiny")
    with pytest.raises(InputError, match="is no folder; give the --storage that the study was run with"):
        read_launch(tmp_path / "absent", "tiny")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One clock for both of the writer's, which the test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress_note.time, "time", lambda: now[0])
    monkeypatch.setattr(progress_note.time, "monotonic", lambda: now[0])
    return now


def test_progress_is_written_at_most_once_a_second(tmp_path: Path, clock: list[float]) -> None:
    writer = ProgressWriter(tmp_path, n_steps=1000)
    seen = []
    for step in range(1, 31):
        clock[0] = 1000.0 + 0.1 * step
        writer.reached(step)
        note = read_progress(tmp_path)
        assert note is not None
        seen.append(note.step)
    assert seen == [0] * 9 + [10] * 10 + [20] * 10 + [30]


def test_progress_says_how_long_the_rest_takes(tmp_path: Path, clock: list[float]) -> None:
    writer = ProgressWriter(tmp_path, n_steps=1000)
    # The process took a minute to start and goes on from a checkpoint at step 500: neither is its pace.
    clock[0] = 1060.0
    writer.reached(501)
    note = read_progress(tmp_path)
    assert note is not None
    assert (note.step, note.left_s) == (501, None)
    clock[0] = 1070.0
    writer.validated({"val/mse": 0.25}, 601)
    note = read_progress(tmp_path)
    assert note is not None
    assert note.left_s == pytest.approx(399 * 0.1)
    assert (note.validation, note.validated_step, note.started) == ({"val/mse": 0.25}, 601, 1000.0)
    writer.end()
    assert read_progress(tmp_path) is None


def test_progress_that_cannot_be_written_stops_nothing(tmp_path: Path, clock: list[float]) -> None:
    (tmp_path / "file").write_text("")
    writer = ProgressWriter(tmp_path / "file", n_steps=10)
    clock[0] += 5
    writer.reached(1)
    writer.end()
    assert read_progress(tmp_path / "file") is None


@pytest.mark.parametrize("content", ["", "[]", '{"step": 1}'])
def test_progress_that_is_cut_off_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "progress.json").write_text(content)
    assert read_progress(tmp_path) is None


def test_the_note_holds_json_alone(tmp_path: Path) -> None:
    launch(tmp_path, 1)
    content = json.loads((tmp_path / "studies" / "tiny" / "launch.json").read_text())
    assert content["trials"] == [["t0", "n0 seed 0 fold_1", 100, False, 0, None]]
    assert content["version"] == 1


def test_a_note_for_which_there_is_no_room_leaves_the_one_before_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "note.json", "before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "note.json", "after")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("note.json", "before")]
