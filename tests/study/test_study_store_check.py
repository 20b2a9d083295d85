"""A study against what a store holds: everything that is missing, said at once, with who asks for it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from prism_ray.config import patched
from prism_ray.errors import ConfigError
from prism_ray.study.load import load_study
from prism_ray.study.spec import Arm, Study
from prism_ray.study.store_check import check_against_store
from tests.conftest import REPOSITORY


def contents(**changes: Any) -> SimpleNamespace:
    given = {
        "signals": ("h3k27ac", "dnase", "hic"),
        "window_bp": 8000,
        "cell_types": ("K562", "GM12878"),
        "folds": SimpleNamespace(names=("fold_1", "fold_2")),
        "has_sequence": True,
        "scalar_names": ("utr5_len", "promoter_activity"),
        "signals_of": lambda cell_type: ("h3k27ac", "dnase", "hic"),
    }
    return SimpleNamespace(**{**given, **changes})


@pytest.fixture
def ablation() -> Study:
    return load_study(REPOSITORY / "search_spaces" / "smoke.yaml")


@pytest.fixture
def search() -> Study:
    return load_study(REPOSITORY / "search_spaces" / "joint_search.yaml", smoke=True)


def test_what_fits_passes(ablation: Study, search: Study) -> None:
    check_against_store(ablation, contents())
    check_against_store(search, contents())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": ("h3k27ac", "dnase")}, "smoke.yaml: all arms: data.signals: the signal 'hic' is not in the store"),
        ({"signals": ("H3K27ac", "dnase", "hic")}, "'h3k27ac' is not in the store.*Did you mean 'H3K27ac'"),
        ({"window_bp": 500}, "all arms: data.window_bp: 1000 bp, but the store has 500 bp"),
        ({"cell_types": ("k562",)}, "cell_types: 'K562' is not in the store.*Did you mean 'k562'"),
        ({"folds": SimpleNamespace(names=("fold_2",))}, "folds: 'fold_1' is not in the store"),
        ({"has_sequence": False}, "all arms: data.sequence: true, but the store has no DNA"),
    ],
)
def test_what_a_store_lacks(ablation: Study, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_against_store(ablation, contents(**change))


def test_everything_at_once(ablation: Study) -> None:
    empty = contents(signals=(), window_bp=2, cell_types=(), folds=SimpleNamespace(names=()), has_sequence=False)
    with pytest.raises(ConfigError) as caught:
        check_against_store(ablation, empty)
    assert len(caught.value.faults) == 7


def test_the_arms_that_ask_are_named(ablation: Study) -> None:
    n0, n2 = ablation.arms
    settings = patched(n0.config, {"data.signals": ["h3k27ac", "atac"], "data.scalars": ["gc"]}, "")
    study = replace(ablation, arms=(n0, n2, Arm("odd", {}, "", settings), Arm("odder", {}, "", settings)))
    with pytest.raises(ConfigError) as caught:
        check_against_store(study, contents())
    assert [str(fault).split(";")[0].split("smoke.yaml: ")[1] for fault in caught.value.faults] == [
        "arms odd, odder: data.signals: the signal 'atac' is not in the store",
        "arms odd, odder: data.scalars: the scalar 'gc' is not in the store",
    ]


def test_a_search_is_checked_at_its_widest(search: Study) -> None:
    with pytest.raises(ConfigError) as caught:
        check_against_store(search, contents(window_bp=600, signals=("h3k27ac", "hic")))
    assert [str(fault).split("joint_search.yaml: ")[1].split(";")[0] for fault in caught.value.faults] == [
        "search.space: data.signals: the signal 'dnase' is not in the store",
        "search.space: data.window_bp: 1000 bp, but the store has 600 bp",
    ]
