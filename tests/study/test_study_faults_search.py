"""Faults of a search's file: each is refused with its line, what was given and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.errors import ConfigError
from prism_ray.study.load import load_study
from tests.study.texts import SEARCH, changed

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

CASES = [(old, new, message) for old, cases in FAULTS.items() for new, message in cases]


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[2][:50] for case in CASES])
def test_each_fault_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "asked.yaml"
    path.write_text(changed(SEARCH, (old, new)))
    with pytest.raises(ConfigError, match=message.replace("@", "asked.yaml:")):
        load_study(path)
