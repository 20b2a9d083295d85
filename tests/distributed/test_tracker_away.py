"""MLflow away at the very end of a launch: the trials are done, the command says so, the rest is delivered later."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.cli import main
from prism_ray.cli.running import launch
from prism_ray.distributed import launch as launch_module
from prism_ray.distributed import study_run
from prism_ray.distributed.closing import UNCLOSED_NAME, read_unclosed
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.study_run import run_study
from prism_ray.tracking import process_courier
from tests.distributed.conftest import tiny_study
from tests.distributed.test_kill_services import Acts, assert_all_finished_once
from tests.tracking_door import Door


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("given_up_soon")
def test_finished_trials_end_with_0_and_sync_delivers_what_the_tracker_lacks(
    simulated_store: Path,
    door: Door,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(launch_module, "DELIVERY_S", 1.0)
    study, uri = tiny_study(tmp_path, seeds=[2]), door.uri
    settings = StudySettings(simulated_store, tmp_path / "results", uri, backend=InProcessBackend())
    told = Acts(at_2=door.close)
    monkeypatch.setattr(study_run, "run_study", lambda study, settings, progress: run_study(study, settings, told))
    assert launch(study, settings) == 0
    said = capsys.readouterr().out
    assert "2 of 2 trials are finished" in said
    assert f"UNTOLD    tracking store {uri}: cannot be reached" in said
    assert f"`prism-ray sync --storage {settings.storage}` delivers it" in said
    assert not (settings.storage / "reports").exists()
    assert main(["sync", "--storage", str(settings.storage)]) == 1, "it is away still"
    said = capsys.readouterr().out
    assert f"LEFT {settings.study_folder('tiny') / UNCLOSED_NAME}: tracking store {uri}: cannot be reached" in said
    door.open()
    assert main(["sync", "--storage", str(settings.storage)]) == 0
    assert "1 runs of studies are ended" in capsys.readouterr().out
    # This process lives on after its launch: what tells the tracker in the background may be in the middle of it.
    assert process_courier().flush(60)
    assert_all_finished_once(study, settings)
    assert not (settings.study_folder("tiny") / UNCLOSED_NAME).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"parent_run_id": "a"}', '{"parent_run_id": "a", "status": "x", "y": 1}'])
def test_a_damaged_note_is_left_and_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = tmp_path / "studies" / "tiny" / UNCLOSED_NAME
    note.parent.mkdir(parents=True)
    note.write_text(text)
    assert read_unclosed(note) is None
    assert main(["sync", "--storage", str(tmp_path)]) == 1
    assert f"LEFT {note}: is damaged; the next launch of the study ends its run" in capsys.readouterr().out
