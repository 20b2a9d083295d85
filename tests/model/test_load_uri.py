"""Models loaded from a tracking store, as a study leaves them there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prism_ray.config import ModelConfig
from prism_ray.errors import CheckpointError, TrackingError
from prism_ray.model import InputShape, Prism, load, save
from prism_ray.tracking import MlflowTracker
from prism_ray.tracking.client import connect
from tests.tracking_support import STUDY, fresh_store, trial_header

NAME = "prism"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Prism]:
    """A store with a trial's model, registered as version 1 with an alias: its address, the run, the model."""
    folder = tmp_path_factory.mktemp("tracked")
    uri = fresh_store(folder)
    model = Prism(ModelConfig(d_model=8, n_layers=1, d_state=4), InputShape(2, 1), seed=4).eval()
    save(model, folder / "model", signals=("a", "b"), scalars=("c",), window_bp=128, cell_type="K562")
    tracker = MlflowTracker(uri)
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header())
    log.log_files({f"model/{file.name}": file for file in sorted((folder / "model").iterdir())})
    log.finish("FINISHED")
    assert log.run_id is not None
    client = connect(uri)
    client.create_registered_model(NAME)
    version = client.create_model_version(NAME, f"runs:/{log.run_id}/model", log.run_id).version
    client.set_registered_model_alias(NAME, "champion", version)
    return uri, log.run_id, model


@pytest.mark.parametrize("form", ["runs:/{run}/model", "models:/prism@champion", "models:/prism/1"])
def test_by_run_alias_and_version(form: str, kept: tuple[str, str, Prism], monkeypatch: pytest.MonkeyPatch) -> None:
    uri, run_id, model = kept
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    again = load(form.format(run=run_id))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert again.trained_on is not None
    assert again.trained_on.signals == ("a", "b")


def test_the_store_may_be_named(kept: tuple[str, str, Prism], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri, run_id, _ = kept
    assert load(f"runs:/{run_id}/model", tracking_uri=uri).config.d_model == 8
    with pytest.raises(TrackingError, match="needs a tracking store, and none is named; set MLFLOW_TRACKING_URI"):
        load(f"runs:/{run_id}/model")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("runs:/0123456789abcdef0123456789abcdef/model", "refused"),
        ("models:/prism@nobody", "refused .*nobody"),
        ("models:/prism/7", "refused .*"),
        ("models:/other@champion", "refused .*other"),
        ("models:/prism", "names no model; give runs:/RUN_ID/model, models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/prism/Production", "names no model"),
        ("runs:/abc", "names no model"),
    ],
)
def test_what_the_store_has_not(uri: str, message: str, kept: tuple[str, str, Prism]) -> None:
    with pytest.raises(TrackingError, match=message):
        load(uri, tracking_uri=kept[0])


def test_a_run_without_a_whole_model(kept: tuple[str, str, Prism], tmp_path: Path) -> None:
    uri, run_id, _ = kept
    (tmp_path / "notes.txt").write_text("no model")
    connect(uri).log_artifact(run_id, str(tmp_path / "notes.txt"), "other")
    with pytest.raises(CheckpointError) as raised:
        load(f"runs:/{run_id}/other", tracking_uri=uri)
    assert len(raised.value.faults) == 2


def test_a_run_without_such_files(kept: tuple[str, str, Prism]) -> None:
    uri, run_id, _ = kept
    with pytest.raises(TrackingError, match=f"runs:/{run_id}/nothing: holds no file"):
        load(f"runs:/{run_id}/nothing", tracking_uri=uri)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not exist; it would have to hold models:/prism@champion"):
        load("models:/prism@champion", tracking_uri=f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_loaded_without_mlflow(tmp_path: Path) -> None:
    model = Prism(ModelConfig(d_model=8, n_layers=1, n_states=0), InputShape(0, 0), seed=4)
    save(model, tmp_path / "model")
    code = f"import sys; from prism_ray.model import load; load({str(tmp_path)!r}); assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
