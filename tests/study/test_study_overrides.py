"""`--set path=value`: read as YAML, refused with the faults of the file, and never mixed with the plain study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prism_ray.documents import read_value
from prism_ray.errors import ConfigError
from prism_ray.study.designs import expand
from prism_ray.study.overrides import load_overridden
from tests.study.texts import ABLATION, SEARCH, changed


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "asked.yaml"
    path.write_text(ABLATION)
    return str(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("1.0e-3", 1.0e-3),
        ("adjusted", "adjusted"),
        ("true", True),
        ("[dnase, hic]", ("dnase", "hic")),
        ("[]", ()),
        ("", None),
    ],
)
def test_a_value_is_a_yaml_scalar_or_list(text: str, value: Any) -> None:
    read = read_value(text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("text", ["{a: 1}", "[[1]]", "[{a: 1}]", "[1"])
def test_anything_else_is_no_value(text: str) -> None:
    with pytest.raises(ValueError, match="is n"):
        read_value(text)


def test_settings_are_replaced_in_every_arm(file: str) -> None:
    plain = load_overridden(file, [])
    study = load_overridden(file, ["data.signals=[dnase]", " optimizer.learning_rate = 1.0e-3"])
    assert study.overrides == {"data.signals": ("dnase",), "optimizer.learning_rate": 1.0e-3}
    assert {arm.config.data.signals for arm in study.arms} == {("dnase",)}
    assert study.overrides_text == 'data.signals = ["dnase"], optimizer.learning_rate = 0.001'
    ids = [{trial.trial_id("data") for trial in expand(one)} for one in (plain, study)]
    assert ids[0].isdisjoint(ids[1])


def test_another_experiment_for_each_set_of_values_whatever_their_order(file: str) -> None:
    first, second = "model.n_layers=2", "model.d_model=8"
    names = [
        load_overridden(file, given).name
        for given in ([], [first], [second], [first, second], [second, first], ["model.n_layers=3"])
    ]
    assert names[0] == "asked"
    assert names[3] == names[4]
    assert len(set(names)) == 5
    assert all(name.startswith("asked-set-") for name in names[1:])
    assert load_overridden(file, [first], smoke=True).name == names[1].replace("asked", "asked-smoke")


def test_all_faults_of_flags_and_file_are_said_together(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(ABLATION, ("claim: two", "clame: two")))
    given = ["x", "=1", "loss.alpha=[1", "model.d_modle=8", "model.n_states=3", "seed=1", "model.d_model=1.5"]
    given += ["training.n_steps=2026-01-02"]
    given += ["loss.beta=1.0", "loss.beta=2.0"]
    with pytest.raises(ConfigError) as refused:
        load_overridden(str(path), given)
    said = [str(fault) for fault in refused.value.faults]
    for part in (
        "--set x: is no assignment; write --set",
        "--set =1: is no assignment",
        "--set loss.alpha: '[1' is not valid YAML",
        "--set loss.beta: is given twice",
        "Did you mean 'model.d_model'?",
        "--set model.n_states: is what the study asked varies",
        "--set seed: is no setting of the baseline but of the study; change `seeds` in a copy of its file",
        "--set model.d_model: 1.5: input should be a valid integer",
        "--set training.n_steps: ",
        "asked.yaml:2: clame: is not a known field",
    ):
        assert len([line for line in said if part in line]) == 1, part
    # And claim, which is missing now; nothing else follows from these.
    assert len(said) == 11


@pytest.mark.parametrize("path", ["seeds", "data.fold", "cell_types", "budget.gpu_hours", "search.n_trials", "arms.n0"])
def test_what_is_the_studys_own_is_sent_to_its_file(path: str, file: str) -> None:
    field = {"data.fold": "folds"}.get(path, path.split(".")[0])
    with pytest.raises(ConfigError, match=rf"^--set {path}: is no setting .* of the study; change `{field}` in a copy"):
        load_overridden(file, [f"{path}=1"])


def test_what_a_search_varies_cannot_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(SEARCH)
    with pytest.raises(ConfigError, match=r"--set loss\.alpha: is what the study asked varies"):
        load_overridden(str(path), ["loss.alpha=1.0"])
    assert load_overridden(str(path), ["training.n_steps=5"]).baseline.training.n_steps == 5
