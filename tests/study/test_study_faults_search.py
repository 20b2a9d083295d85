"""Faults of a search's file: each is refused with its line, what was given and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prism_ray.errors import ConfigError
from prism_ray.study.load import load_study
from tests.study.texts import ABLATION, SEARCH, changed

# What is replaced -> what it is replaced by, and the message, in which `@` is the file.
FAULTS: dict[str, list[tuple[str, str]]] = {
    "kind: search": [
        ("kind: search\nchanges: [loss.alpha]", "@5: changes: has no effect in a study of kind search"),
        ("kind: search\nbaseline_arm: n0", "@5: baseline_arm: has no effect"),
    ],
    "seeds: [2]": [
        ("seeds: [2, 22]", "@5: seeds: 2 of them, but a search trains each proposal once"),
    ],
    "n_trials: 12": [
        ("n_trials: 0", "@11: search.n_trials: 0"),
        ("n_trials: 12\n  n_startup_trials: 20", "search: n_startup_trials 20 is above n_trials 12"),
        ("n_trials: 12\n  sampler: random\n  n_startup_trials: 3", "no effect with sampler: random"),
        ("n_trials: 12\n  sampler: bayes", "@12: search.sampler: 'bayes'"),
    ],
    "int_range: [0, 8]": [
        (
            "log_uniform: [1, 8]",
            "search.space.model.n_states.log_uniform: is not a known field.*Did you mean 'loguniform'",
        ),
        ("int_range: [0, 8], choice: [1, 2]", "search.space.model.n_states: gives 2 domains"),
        ("int_range: [8, 0]", "@13: search.space.model.n_states: .*empty or a single value"),
        ("int_range: [0, 100]", "@13: search.space.model.n_states: 100: .*less than"),
        ("uniform: [0, 8]", "@13: search.space.model.n_states: 0.0: .*integer"),
    ],
    "{int_range: [0, 8]}": [
        ("{}", "search.space.model.n_states: gives 0 domains"),
        ("{choice: null}", "search.space.model.n_states: gives 0 domains"),
    ],
    "model.n_states: {int_range: [0, 8]}": [
        ("model.n_stats: {int_range: [0, 8]}", "'model.n_stats' is not a setting"),
        ("seed: {int_range: [0, 8]}", "@13: search.space.seed: seed is set"),
        (
            "model.n_states: {int_range: [0, 8], when: {loss.alpha: {at_least: 1}}}",
            "loss.alpha comes later in the space",
        ),
    ],
    "uniform: [0, 2], when": [
        ("choice: [5e-1, 1.0], when", "search.space.loss.alpha: '5e-1' is text to YAML.*write 5.0e-1"),
        ("uniform: [-1, 2], when", "@15: search.space.loss.alpha: -1.0"),
    ],
    "min_size: 1": [
        ("min_size: 0", "@12: search.space: with .*no effect without signals.*narrow a domain"),
    ],
    "{model.n_states: {at_least: 1}}": [
        ("{model.d_state: {at_least: 1}}", "'model.d_state' is not searched"),
        ("{model.n_states: {at_least: 9}}", "@15: search.space.loss.alpha.when.model.n_states: never holds"),
        ("{model.n_states: {at_most: 8}}", "always holds"),
        ("{model.n_states: {}}", "a condition is empty"),
        ("{model.n_states: {one_of: [1, 99]}}", "99 is outside"),
        ("{data.signals: {at_least: 1}}", "data.signals is a subset, which no condition can name"),
    ],
    "model.n_states: {int_range: [0, 2]}": [
        ("model.d_state: {int_range: [1, 2]}", "smoke.search.space.model.d_state: is not searched at full scale"),
    ],
}

ASHA = "n_trials: 12\n  pruner: {kind: asha}"
FINALISTS = "n_trials: 12\n  finalists: {k: 2, seeds: [2, 22], patch: {training.n_steps: 100}}"
SECOND = "report_metric: test/mse\nsecond_objective: {metric: cost/train_s, direction: minimize}"

# Parts that are added to the file, as old -> new, and all messages that it then gives.
PARTS: list[tuple[list[tuple[str, str]], list[str]]] = [
    ([("n_trials: 12", "n_trials: 12\n  pruner: {kind: halving}")], ["@12: search.pruner.kind: 'halving'"]),
    (
        [("n_trials: 12", "n_trials: 12\n  pruner: {kind: none, reduction: 3}")],
        ["@12: search.pruner: reduction has no effect with kind: none"],
    ),
    ([("n_trials: 12", "n_trials: 12\n  pruner: {kind: asha, reduction: 1}")], ["@12: search.pruner.reduction: 1"]),
    (
        [("n_trials: 12", "n_trials: 12\n  pruner: {kind: asha, min_fraction: 1.0}")],
        ["@12: search.pruner.min_fraction: 1.0"],
    ),
    (
        [
            ("n_trials: 12", ASHA),
            ("kind: search", "kind: search\nbaseline: {training.n_steps: 1}"),
        ],
        ["@13: search.pruner: judges no trial of 1 steps before its end"],
    ),
    (
        [
            ("n_trials: 12", ASHA),
            ("  space:\n    model", "  space:\n    training.n_steps: {choice: [8, 9]}\n    model"),
        ],
        ["@12: search.pruner: cannot compare trials of different lengths, and training.n_steps is searched"],
    ),
    (
        [("n_trials: 12", ASHA), ("report_metric: test/mse", SECOND)],
        ["@13: search.pruner: cannot judge a trial by two objectives; use kind: none"],
    ),
    (
        [
            ("n_trials: 3", "n_trials: 3\n    pruner: {kind: asha}"),
            ("report_metric: test/mse", SECOND.replace("minimize", "maximize")),
        ],
        [
            "smoke.search.pruner: cannot judge a trial by two objectives",
            "@10: second_objective.direction: 'maximize' cost/train_s; use minimize",
        ],
    ),
    (
        [("report_metric: test/mse", SECOND.replace("cost/train_s", "cost/train"))],
        ["@10: second_objective.metric: 'cost/train' is not a metric; .*Did you mean 'cost/train_s'"],
    ),
    (
        [("report_metric: test/mse", SECOND.replace("cost/train_s", "test/mae"))],
        ["second_objective.metric: 'test/mae' would choose on the test fold; use val/mae, or a cost"],
    ),
    (
        [("report_metric: test/mse", SECOND.replace("cost/train_s", "val/mse"))],
        ["second_objective.metric: val/mse is the objective already"],
    ),
    (
        [("metric: val/mse", "metric: cost/train_s")],
        ["@8: objective.metric: 'cost/train_s' is not a metric"],
    ),
    (
        [("n_trials: 12", FINALISTS.replace("k: 2", "k: 13"))],
        ["@12: search.finalists.k: 13 of 12", "finalists.k: 13 of 3"],
    ),
    ([("n_trials: 12", FINALISTS.replace("k: 2", "k: 0"))], ["@12: search.finalists.k: 0"]),
    ([("n_trials: 12", FINALISTS.replace("[2, 22]", "[2, 2]"))], ["@12: search.finalists.seeds: gives 2 twice"]),
    ([("n_trials: 12", FINALISTS.replace("[2, 22]", "[]"))], ["@12: search.finalists.seeds: is empty"]),
    (
        [("n_trials: 12", FINALISTS.replace("training.n_steps", "training.n_step"))],
        ["@12: search.finalists.patch.training.n_step: 'training.n_step' is not a setting"],
    ),
    (
        [("n_trials: 12", FINALISTS.replace("training.n_steps: 100", "seed: 3, model.n_states: 2"))],
        [
            "search.finalists.patch.seed: seed is set for every trial",
            "search.finalists.patch.model.n_states: is what the search varies",
        ],
    ),
    (
        [("n_trials: 12", FINALISTS.replace("training.n_steps: 100", "optimizer.learning_rate: 1.0e-9"))],
        ["@12: search.finalists.patch.optimizer: .*above learning_rate"],
    ),
    (
        [("n_trials: 12", FINALISTS), ("smoke:", "smoke:\n  patch: {training.n_steps: 10}")],
        ["@12: search.finalists.patch.training.n_steps: undoes the smoke scale's value; give the finalists"],
    ),
    (
        [("n_trials: 3", "n_trials: 3\n    finalists: {k: 2, seeds: [2]}")],
        ["smoke.search.finalists: there are none at full scale"],
    ),
    (
        [("n_trials: 12", FINALISTS.replace("training.n_steps: 100", "model.predict_with: adjusted"))],
        ["@13: search.space: with .*predict_with: adjusted needs n_states >= 1"],
    ),
]


@pytest.mark.parametrize(("changes", "messages"), PARTS, ids=[part[1][0][:60] for part in PARTS])
def test_faults_of_pruner_objectives_and_finalists(
    tmp_path: Path, changes: list[tuple[str, str]], messages: list[str]
) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(SEARCH, *changes))
    with pytest.raises(ConfigError) as refused:
        load_study(path)
    for message in messages:
        assert re.search(message.replace("@", "asked.yaml:"), str(refused.value)), str(refused.value)
    assert len(refused.value.faults) == len(messages), str(refused.value)


def test_the_smoke_scale_may_shrink_the_baseline_where_it_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    shrunk = ("smoke:", "smoke:\n  patch: {model.n_states: 1}")
    path.write_text(changed(SEARCH, ("n_trials: 12", FINALISTS), shrunk))
    assert load_study(path, smoke=True).baseline.model.n_states == 1
    path.write_text(changed(SEARCH, shrunk))
    with pytest.raises(ConfigError, match=r"smoke\.patch\.model\.n_states: is what the study varies"):
        load_study(path, smoke=True)


def test_an_ablation_has_neither_a_second_objective_nor_a_search(tmp_path: Path) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(ABLATION, ("report_metric: test/mse", SECOND)))
    with pytest.raises(ConfigError, match="second_objective: has no effect in a study of kind ablation"):
        load_study(path)


CASES = [(old, new, message) for old, cases in FAULTS.items() for new, message in cases]


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[2][:50] for case in CASES])
def test_each_fault_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(SEARCH, (old, new)))
    with pytest.raises(ConfigError, match=message.replace("@", "asked.yaml:")):
        load_study(path)
