"""Faults: how one reads, how many are raised together, and the nearest name."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray import errors
from prism_ray.errors import Fault, FaultList, InputError, PrismRayError, StoreError, TrainingError, did_you_mean

FAMILY = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, PrismRayError)]


def raised(faults: FaultList, kind: type[PrismRayError] = InputError) -> PrismRayError:
    with pytest.raises(kind) as caught:
        faults.raise_if_any(kind)
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            Fault("a.yaml:3: data.fold", "'x' is not a fold", "use fold_1"),
            "a.yaml:3: data.fold: 'x' is not a fold; use fold_1",
        ),
        (Fault("a.yaml", "no such file"), "a.yaml: no such file"),
    ],
)
def test_a_fault_says_where_what_and_how_to_mend(fault: Fault, text: str) -> None:
    assert str(fault) == text


def test_no_fault_raises_nothing() -> None:
    faults = FaultList()
    faults.raise_if_any(InputError)
    assert not faults
    assert len(faults) == 0


def test_one_fault_is_the_whole_message() -> None:
    faults = FaultList()
    faults.add("a", "is wrong", "mend it")
    assert str(raised(faults)) == "a: is wrong; mend it"


@given(st.lists(st.builds(Fault, *[st.text("abc", min_size=1)] * 3), min_size=2, max_size=6))
def test_all_faults_are_raised_together_in_order(given_faults: list[Fault]) -> None:
    faults = FaultList()
    faults.add(given_faults[0].where, given_faults[0].problem, given_faults[0].fix)
    faults.extend(given_faults[1:])
    error = raised(faults, StoreError)
    assert error.faults == tuple(given_faults) == faults.faults
    assert str(error).splitlines() == [f"{len(given_faults)} faults:", *(f"  {fault}" for fault in given_faults)]


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(TrainingError, RuntimeError)
    assert issubclass(errors.MissingDependencyError, ImportError)
    # The command tells a run that failed (1) from input that is wrong (2) by these.
    assert not issubclass(TrainingError, InputError)
    for name in ("ConfigError", "CatalogError", "StoreError", "CheckpointError"):
        assert issubclass(getattr(errors, name), InputError)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_keeps_its_faults_from_one_process_to_another(kind: type[PrismRayError]) -> None:
    error = kind("a: is wrong", [Fault("a", "is wrong")])
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.faults) == (kind, str(error), error.faults)


@pytest.mark.parametrize(
    ("word", "candidates", "text"),
    [
        ("x", [], "none is allowed here"),
        ("zzz", ["dnase", "hic"], "use one of dnase, hic"),
        ("dnas", ["hic", "dnase"], "use one of dnase, hic. Did you mean 'dnase'?"),
        ("H3K27AC", ["h3k27ac"], "use one of h3k27ac. Did you mean 'h3k27ac'?"),
        ("k562", ["K562", "GM12878"], "use one of GM12878, K562. Did you mean 'K562'?"),
    ],
)
def test_what_is_allowed_and_the_nearest_name(word: str, candidates: list[str], text: str) -> None:
    assert did_you_mean(word, candidates) == text


def test_a_long_list_is_cut_but_the_nearest_name_is_said() -> None:
    text = did_you_mean("gene99", [f"gene{number:02d}" for number in range(100)])
    assert "gene11, ... (100 in all)" in text
    assert "gene12," not in text
    assert text.endswith("Did you mean 'gene99'?")
