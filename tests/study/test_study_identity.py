"""A trial's identity: settings, data and version of the results, nothing else."""

from __future__ import annotations

import hashlib

import pytest

from prism_ray.config import RunConfig, patched
from prism_ray.study import identity
from prism_ray.study.identity import RESULTS_VERSION, trial_id


def test_known_answer() -> None:
    config = RunConfig()
    text = f"{config.fingerprint()}\nabc\n{RESULTS_VERSION}"
    assert trial_id(config, "abc") == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_settings_data_and_results_version_each_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig()
    ids = {
        trial_id(config, "abc"),
        trial_id(config, "abd"),
        trial_id(patched(config, {"seed": 22}, ""), "abc"),
    }
    monkeypatch.setattr(identity, "RESULTS_VERSION", RESULTS_VERSION + 1)
    ids.add(trial_id(config, "abc"))
    assert len(ids) == 4


def test_settings_without_effect_do_not_change_it() -> None:
    plain = patched(RunConfig(), {"model.n_states": 0}, "")
    assert trial_id(plain, "abc") == trial_id(patched(plain, {"loss.alpha": 0.5}, ""), "abc")
