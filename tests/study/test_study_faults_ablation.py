"""Faults of an ablation's file: each is refused with its line, what was given and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.errors import ConfigError
from prism_ray.study.load import load_study
from tests.study.texts import ABLATION, changed

# What is replaced -> what it is replaced by, and the message, in which `@` is the file.
FAULTS: dict[str, list[tuple[str, str]]] = {
    "question: How many?\n": [
        ("", "@1: question: is missing"),
    ],
    "claim: two": [
        ("clame: two", "@2: clame: is not a known field.*Did you mean 'claim'"),
    ],
    "kind: ablation": [
        ("kind: abblation", "@4: kind: 'abblation'"),
        ("kind: ablation\nbudget: {max_trials: 5}", "budget.max_trials: 5, but the study has 6 trials"),
        ("kind: ablation\nbudget: {gpu_hours: 0}", "@5: budget.gpu_hours: 0: .*greater than 0"),
        ("kind: ablation\nbudget: {wall_hours: .nan}", "@5: budget.wall_hours: nan"),
        ("kind: ablation\nbudget: {max_failures: 0}", "@5: budget.max_failures: 0: .*greater than or equal to 1"),
        ("kind: ablation\nbudget: {gpu_hour: 1}", "@5: budget.gpu_hour: .*Did you mean 'gpu_hours'"),
        ("kind: ablation\nsearch: {n_trials: 2, space: {loss.beta: {uniform: [0, 1]}}}", "@5: search: has no effect"),
        ("kind: search", "search: is missing"),
        (
            "kind: ablation\ndesign: {kind: factorial, factors: {loss.alpha: [1.0]}}",
            "@5: design: .*fewer than two levels; factors are fewer than two",
        ),
        ("kind: ablation\ndesign: {kind: list, of: [a]}", "@5: design: .*of has no effect"),
        ("kind: ablation\ndesign: {kind: subsets, of: [a, b]}", "@5: design: .*field is missing"),
        (
            "kind: ablation\ndesign: {kind: subsets, field: data.signals, of: [a, b], min_size: 2}",
            "min_size 2 leaves fewer than two",
        ),
        (
            "kind: ablation\ndesign: {kind: subsets, field: data.signals, of: [a, b]}",
            "@10: arms: has no effect: a design of kind subsets makes the arms",
        ),
    ],
    "model.d_model: 16": [
        ("model.d_modle: 16", "@6: baseline.model.d_modle.*Did you mean 'model.d_model'"),
        ("model.d_model: big", "@6: baseline.model.d_model: 'big'.*integer"),
        ("model.d_model: 0", "@6: baseline.model.d_model: 0: .*greater than"),
        ("model.d_model: true", "@6: baseline.model.d_model: True"),
        ("optimizer.learning_rate: 5e-4", "@6: .*'5e-4' is text to YAML.*write 5.0e-4"),
        ("data.signals: h3k27ac", "@6: baseline.data.signals: 'h3k27ac'"),
        ("seed: 3", "@6: baseline.seed: seed is set for every trial; .*`seeds`"),
        ("data.fold: fold_2", "baseline.data.fold: .*give its values in `folds`"),
        ("data.cell_type: H1", "baseline.data.cell_type: .*`cell_types`"),
        (
            "model.n_states: 0\n  model.predict_with: adjusted",
            "@5: baseline.model: predict_with: adjusted needs n_states",
        ),
        ("data.signals: []", "@11: arms.n2.patch: arm n2: .*no effect without signals"),
    ],
    "baseline_arm: n0": [
        ("baseline_arm: no", "@7: baseline_arm: False"),
        ("baseline_arm: n1", "@7: baseline_arm: 'n1' is not an arm.*n0, n2, n4"),
        ("baseline_arm: n0\ndesign: {kind: add_one}", "'n0', but a design of kind add_one compares with 'base'"),
    ],
    "baseline_arm: n0\n": [
        ("", "baseline_arm: is missing; name the arm"),
    ],
    "changes: [model.n_states]": [
        ("changes: []", "@8: changes: .*is empty"),
        ("changes: [model.n_state]", "'model.n_state' is not a setting.*Did you mean 'model.n_states'"),
        ("changes: [model.n_states, loss.alpha]", "@8: changes: no arm changes loss.alpha"),
        ("changes: [model.n_states, seed]", "@8: changes: seed is set for every trial"),
    ],
    "changes: [model.n_states]\n": [
        ("", "changes: is missing; list the settings"),
    ],
    "n2: {patch: {model.n_states: 2}": [
        (
            "n2: {patch: {model.n_states: 2, loss.beta: 0.0}",
            "@11: arms.n2.patch.loss.beta: arm n2 changes a setting that is not among `changes`",
        ),
        (
            "n2: {patch: {model.n_state: 2}",
            "@11: arms.n2.patch.model.n_state: 'model.n_state' is not a setting.*Did you mean 'model.n_states'",
        ),
    ],
    "model.n_states: 4": [
        ("model.n_states: 100", "@14: arms.n4.patch.model.n_states: 100: .*less than"),
        ("model.n_states: 2", "@13: arms.n4.patch: arm n4 is the same run as arm n2"),
    ],
    ", reason: plain": [
        ("", "@10: arms.n0.reason: is missing"),
    ],
    "  n4:\n": [
        ("  n/4:\n", "@12: arms.n/4: 'n/4' is no usable name"),
        ("  n2:\n", "@12: arms.n2: is given twice"),
    ],
    "curve: model.n_states": [
        ("curve: model.n_stats", "@16: curve: 'model.n_stats' is not a setting"),
        ("curve: model.average", "@16: curve: model.average is no number"),
        ("curve: loss.alpha", "@16: curve: loss.alpha is not varied"),
    ],
    "seeds: [2, 22]": [
        ("seeds: [2, 2]", "@17: seeds: .*gives 2 twice"),
        ("seeds: []", "@17: seeds: .*is empty"),
        ("seeds: 2", "@17: seeds: 2"),
        ("seeds: [2, -1]", "@17: seeds.1: -1"),
        ("seeds: [2, 'x']", "@17: seeds.1: 'x'"),
    ],
    "folds: [fold_1]": [
        ("folds: [fold_1, fold_1]", "@18: folds: .*gives 'fold_1' twice"),
    ],
    "cell_types: [K562]\n": [
        ("", "cell_types: is missing"),
    ],
    "metric: val/mse": [
        ("metric: test/mse", "objective.metric: 'test/mse' would choose on the test fold; use val/mse"),
        ("metric: val/msse", "objective.metric: 'val/msse' is not a metric.*Did you mean 'val/mse'"),
    ],
    "direction: minimize": [
        ("direction: maximize", "objective.direction: 'maximize' val/mse; use minimize"),
    ],
    "report_metric: test/mse": [
        ("report_metric: mse", "@21: report_metric: 'mse' is not a metric"),
    ],
    "training.n_steps: 10": [
        ("training.n_step: 10", "@23: smoke.patch.training.n_step: .*Did you mean 'training.n_steps'"),
        ("model.n_states: 1", "@23: smoke.patch.model.n_states: is what the study varies"),
    ],
    "arms: [n0, n2]": [
        ("arms: [n0, n9]", "@24: smoke.arms: 'n9' is not an arm"),
        ("arms: [n2, n4]", "@24: smoke.arms: leaves out the baseline arm n0"),
        ("arms: [n0]", "@24: smoke.arms: leaves nothing to compare"),
        ("search: {n_trials: 2}", "@24: smoke.search: has no effect"),
    ],
}

CASES = [(old, new, message) for old, cases in FAULTS.items() for new, message in cases]


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[2][:50] for case in CASES])
def test_each_fault_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(ABLATION, (old, new)))
    with pytest.raises(ConfigError, match=message.replace("@", "asked.yaml:")):
        load_study(path)
