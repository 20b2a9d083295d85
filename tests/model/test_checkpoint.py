"""Model folders: round trip, and every way in which one can be unusable."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from prism_ray.config import DataConfig, ModelConfig, RunConfig
from prism_ray.errors import CheckpointError, InputError
from prism_ray.model import InputShape, Prism, load, save

CONFIG = ModelConfig(d_model=8, n_layers=1, d_state=4, n_states=2)
SIGNALS = ("h3k27ac", "dnase")
SCALARS = ("gc_5utr", "promoter_activity", "cds_length")


@pytest.fixture
def model():
    model = Prism(CONFIG, InputShape(2, 3), seed=1)
    with torch.no_grad():
        model.state_encoder.convolutions[1].running_mean.add_(0.5)  # buffers travel too
    return model.eval()


@pytest.fixture
def folder(model, tmp_path):
    save(model, tmp_path / "model", signals=SIGNALS, scalars=SCALARS, window_bp=2000, cell_type="K562")
    return tmp_path / "model"


def change(folder, **fields):
    document = json.loads((folder / "config.json").read_text())
    document.update(fields)
    (folder / "config.json").write_text(json.dumps(document))


def test_round_trip(model, folder):
    again = load(folder)
    assert not again.training
    assert again.config == CONFIG
    assert again.inputs == model.inputs
    assert again.trained_on.signals == SIGNALS
    assert again.trained_on.scalars == SCALARS
    assert again.trained_on.window_bp == 2000
    assert again.trained_on.cell_type == "K562"
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(2, *shape, generator=generator) for shape in ((64, 4), (64, 2), (3,))]
    one, other = model(*inputs), again(*inputs)
    assert torch.equal(one.plain, other.plain)
    assert torch.equal(one.adjusted, other.adjusted)
    assert sorted(file.name for file in folder.parent.iterdir()) == ["model"]
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_the_runs_settings_are_kept_and_name_the_inputs(model, tmp_path):
    run = RunConfig(data=DataConfig(signals=SIGNALS, window_bp=500, cell_type="H1"), model=CONFIG, seed=22)
    save(model, tmp_path / "model", run_config=run, scalars=SCALARS)
    again = load(str(tmp_path / "model")).trained_on
    assert again.run_config == run
    assert (again.signals, again.scalars, again.window_bp, again.cell_type) == (SIGNALS, SCALARS, 500, "H1")


def test_a_loaded_model_keeps_what_it_was_trained_on(folder, tmp_path):
    save(load(folder), tmp_path / "copy")
    assert load(tmp_path / "copy").trained_on == load(folder).trained_on


def test_an_existing_folder_is_replaced_only_when_asked(model, folder):
    with pytest.raises(CheckpointError, match="exists; give another folder"):
        save(model, folder, signals=SIGNALS, scalars=SCALARS)
    with torch.no_grad():
        model.head[4].bias.fill_(7.0)
    save(model, folder, signals=SIGNALS, scalars=SCALARS, overwrite=True)
    assert load(folder).head[4].bias.item() == 7.0
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds other files than a model's"):
        save(model, folder, signals=SIGNALS, scalars=SCALARS, overwrite=True)
    assert (folder / "notes.txt").exists()


def test_names_must_fit_the_model_and_nothing_is_written(model, tmp_path):
    with pytest.raises(InputError) as raised:
        save(model, tmp_path / "model", signals=("dnase",), scalars=("a", "a", "b"))
    assert len(raised.value.faults) == 2
    assert "save: signals: ['dnase'] does not name the model's inputs; give 2 different names" in str(raised.value)
    other = RunConfig(data=DataConfig(signals=SIGNALS), model=CONFIG.model_copy(update={"n_layers": 2}))
    with pytest.raises(InputError, match=r"save: run_config\.model: differs from the model in \['n_layers'\]"):
        save(model, tmp_path / "model", run_config=other, scalars=SCALARS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["s3://bucket/model", "file:///tmp/model"])
def test_uris_of_other_places_are_refused(uri):
    with pytest.raises(CheckpointError, match=r":/ is not a place that models are loaded from; give a folder, runs:/"):
        load(uri)


def test_the_folder_of_a_run_is_its_model(folder, model):
    (folder.parent / "result.json").write_text("{}")
    assert load(folder.parent).config == model.config


def test_a_missing_folder_or_file(folder):
    with pytest.raises(
        CheckpointError, match=r"no such folder; give a folder with model\.safetensors and config\.json"
    ):
        load(folder / "nothing")
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as raised:
        load(folder)
    assert len(raised.value.faults) == 2


def test_damaged_files(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read as safetensors"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON"):
        load(folder)


@pytest.mark.parametrize("document", ["[]", "{}", '{"schema_version": 99}'])
def test_unknown_schema_versions(folder, document):
    (folder / "config.json").write_text(document)
    with pytest.raises(
        CheckpointError, match=r"config\.json: schema_version: .* is not a version .* use a model of version 1"
    ):
        load(folder)


def test_faults_of_the_settings_are_reported_together(folder):
    change(folder, model={"n_state": 2}, inputs={"n_signals": "2"}, signals="dnase", window_bp="long", cell_type=5)
    with pytest.raises(CheckpointError) as raised:
        load(folder)
    text = str(raised.value)
    assert len(raised.value.faults) == 5
    assert "config.json: model.n_state: is not a known field" in text
    assert "Did you mean 'n_states'" in text
    assert "config.json: inputs: {'n_signals': '2'} does not describe inputs" in text
    assert "config.json: signals: 'dnase' is not a list of names" in text
    assert "config.json: window_bp: 'long' is not int or null" in text
    assert "config.json: cell_type: 5 is not str or null" in text


def test_settings_that_contradict_each_other(folder):
    change(folder, signals=["dnase"])
    with pytest.raises(CheckpointError, match=r"config\.json: signals: \['dnase'\] does not name the model's inputs"):
        load(folder)
    change(folder, inputs={"n_signals": 0, "n_scalars": 3, "sequence": False}, signals=[])
    with pytest.raises(CheckpointError, match="the model would see nothing along the window"):
        load(folder)


def test_weights_of_another_model(folder):
    weights = load_file(folder / "model.safetensors")
    weights["extra"] = torch.zeros(1)
    weights["head.4.bias"] = torch.zeros(2)
    del weights["backbone.norm.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as raised:
        load(folder)
    text = str(raised.value)
    assert len(raised.value.faults) == 3
    assert "backbone.norm.weight: is missing" in text
    assert "extra: is not a weight of this model" in text
    assert "head.4.bias: has shape (2,); the settings expect (1,)" in text
