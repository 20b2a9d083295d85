"""Promoting: which model is chosen, that what is registered predicts the same numbers, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import prism_ray.store
from prism_ray.cli import main
from prism_ray.distributed import promote as module
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.promote import Wanted, promote
from prism_ray.distributed.study_run import run_study
from prism_ray.errors import InputError
from prism_ray.model import load
from prism_ray.tracking import StudyRun, fetch_trials
from prism_ray.tracking.client import connect
from prism_ray.training.record import TrialRecord
from tests.distributed.conftest import Told, study_records, study_settings, tiny_study

pytestmark = pytest.mark.ray


@dataclass(frozen=True)
class Finished:
    settings: StudySettings
    records: list[TrialRecord]

    @property
    def best(self) -> TrialRecord:
        return min(self.records, key=lambda record: record.metrics["val/mse"])

    def promoted(self, store: Path | None = None, **wanted: object) -> module.Promotion:
        asked = Wanted("tiny", **wanted)  # type: ignore[arg-type]
        return promote(asked, self.settings.tracking_uri, storage=self.settings.storage, store=store)


@pytest.fixture(scope="module")
def finished(simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A study with two arms on two folds."""
    folder = tmp_path_factory.mktemp("promote")
    settings = replace(study_settings(simulated_store, folder), backend=InProcessBackend())
    study = tiny_study(folder, seeds=[2], folds=["fold_1", "fold_2"])
    assert run_study(study, settings, Told()).exit_code == 0
    of_a_fold = [record for record in study_records(study, settings).values() if record.config.data.fold == "fold_1"]
    return Finished(settings, of_a_fold)


LOADS = """
import sys
import mlflow, numpy as np
inputs = dict(np.load(sys.argv[1]))
model = mlflow.pyfunc.load_model("models:/prism-tiny@champion")
print(sorted(model.metadata.signature.inputs.input_names()))
np.savez(sys.argv[2], **model.predict(inputs))
"""


def test_the_best_on_validation_genes_is_registered_and_predicts_the_same(
    finished: Finished, simulated_store: Path, tmp_path: Path
) -> None:
    uri, best = finished.settings.tracking_uri, finished.best
    first = finished.promoted(fold="fold_1")
    assert (first.arm, first.value) == (f"n{best.config.model.n_states}", best.metrics["val/mse"])
    assert (first.registration.version, first.registration.aliases, first.n_trials) == (1, ("candidate",), 2)
    again = finished.promoted(fold="fold_1", champion=True)
    assert (again.registration.version, again.registration.is_new) == (1, False)
    assert again.registration.aliases == ("candidate", "champion")

    client = connect(uri)
    version = client.get_model_version_by_alias("prism-tiny", "champion")
    assert version.run_id == first.run_id
    assert version.tags["prism.trial_id"] == best.trial_id
    assert version.tags["prism.data_digest"] == prism_ray.store.open(simulated_store).digest
    assert version.tags["prism.study"] == "tiny"
    packed = Path(client.download_artifacts(first.run_id, "packed_model", str(tmp_path)))
    # Weights, settings, code and text: nothing that has to be unpickled.
    kinds = {file.suffix for file in packed.rglob("*") if file.is_file()}
    assert kinds <= {".safetensors", ".json", ".py", ".txt", ".yaml", ""}
    flavor = yaml.safe_load((packed / "MLmodel").read_text())["flavors"]["python_function"]
    assert "python_model" not in flavor
    assert Path(flavor["model_code_path"]).name == "served_model.py"
    assert load("models:/prism-tiny@champion", tracking_uri=uri).trained_on == load(best.folder).trained_on

    recorded = pd.read_parquet(best.folder / "test_predictions.parquet")
    data = best.config.data
    scalars = prism_ray.store.open(simulated_store).scalar_names
    genes = prism_ray.store.open(simulated_store).load(
        data.window_bp, data.signals, data.cell_type, recorded["gene_id"].tolist(), scalars=scalars
    )
    np.savez(tmp_path / "in.npz", sequence=genes.sequence, signals=genes.signals, scalars=genes.scalars)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADS, tmp_path / "in.npz", tmp_path / "out.npz"],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["['scalars',", "'sequence',", "'signals']"]
    given = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(given["prediction"], recorded["prediction"], rtol=1e-5, atol=1e-5)
    assert set(given) == (
        {"prediction", "plain", "adjusted"} if best.config.model.n_states else {"prediction", "plain"}
    )


def test_on_the_command_line(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--storage", str(finished.settings.storage), "--tracking-uri", finished.settings.tracking_uri]
    assert main(["promote", "tiny", *place, "--model-name", "other", "--fold", "fold_2"]) == 0
    out = capsys.readouterr().out
    assert "other version 1 registered; aliases: candidate" in out
    assert "the best of 2 trials" in out
    assert main(["promote", "tiny", *place]) == 2
    said = capsys.readouterr().err
    assert "--fold: the study has fold_1, fold_2, whose validation errors do not compare; choose one" in said


def test_trials_that_are_not_there_are_refused(finished: Finished) -> None:
    with pytest.raises(InputError) as raised:
        finished.promoted(fold="fold_9", cell_type="GM12878")
    assert [fault.where for fault in raised.value.faults] == ["--cell-type", "--fold"]


def test_neither_the_store_nor_the_workspace_is_needed(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only MLflow is at hand; a run of an earlier version, which keeps no inputs, says what it needs."""
    elsewhere = replace(finished, settings=replace(finished.settings, storage=tmp_path))
    done = elsewhere.promoted(fold="fold_1", model_name="alone")
    assert done.registration.is_new
    monkeypatch.setattr(module, "fetch_example", lambda uri, run_id: None)
    with pytest.raises(InputError, match=r"keeps no example input, and .* does not know the study's feature store"):
        elsewhere.promoted(fold="fold_1", model_name="never")
    assert elsewhere.promoted(finished.settings.store, fold="fold_1", model_name="beside").registration.is_new
    assert finished.promoted(fold="fold_1", model_name="known").registration.is_new


def test_another_store_is_refused(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module.fetch_study

    def of_other_data(uri: str, study: str) -> StudyRun:
        launch = real(uri, study)
        return replace(launch, header=replace(launch.header, data_digest="0" * 64))

    monkeypatch.setattr(module, "fetch_study", of_other_data)
    with pytest.raises(InputError, match=r"trained on 000000000000; give the study's own store with --store"):
        finished.promoted(finished.settings.store, fold="fold_1")


def test_a_model_that_is_not_the_one_that_was_tested_is_refused(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.fetch_predictions

    def shifted(uri: str, run_ids: list[str]) -> dict[str, pd.DataFrame]:
        return {run: table.assign(prediction=table["prediction"] + 0.01) for run, table in real(uri, run_ids).items()}

    monkeypatch.setattr(module, "fetch_predictions", shifted)
    with pytest.raises(InputError, match=r"differ by up to 0.01 from those that it recorded"):
        finished.promoted(fold="fold_1", model_name="never")
    assert not connect(finished.settings.tracking_uri).search_registered_models("name = 'never'")


def test_evaluations_have_no_model_of_their_own(finished: Finished) -> None:
    trials = fetch_trials(finished.settings.tracking_uri, "tiny")
    launch = module.fetch_study(finished.settings.tracking_uri, "tiny")
    trials.loc[0, "trained_trial"] = "another"
    assert len(module._with_a_model(trials, launch)) == len(trials) - 1
    with pytest.raises(InputError, match="has no finished trial with a model and a value of best/mse"):
        module._with_a_model(trials.assign(status="FAILED"), launch)
