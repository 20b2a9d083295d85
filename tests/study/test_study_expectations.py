"""Claims of a study file about its arms."""

from __future__ import annotations

from pathlib import Path

import pytest

from prism_ray.errors import ConfigError
from prism_ray.study.expectations import Expectation
from prism_ray.study.load import load_study
from tests.study.texts import ABLATION, SEARCH


def written(folder: Path, claims: str, text: str = ABLATION) -> Path:
    path = folder / "study.yaml"
    path.write_text(f"{text}expect:\n{claims}")
    return path


def test_claims_are_about_arms_and_compare_with_the_baseline(tmp_path: Path) -> None:
    path = written(tmp_path, "  - {arm: n2, to_be: better}\n  - {arm: n4, than: n2, to_be: same, margin: 0.002}\n")
    study = load_study(path)
    assert study.expectations == (Expectation("n2", "n0", "better", None), Expectation("n4", "n2", "same", 0.002))
    # The smoke scale keeps n0 and n2 alone.
    assert load_study(path, smoke=True).expectations == (Expectation("n2", "n0", "better", None),)


def test_claims_do_not_change_what_a_study_is(tmp_path: Path) -> None:
    with_claim = load_study(written(tmp_path, "  - {arm: n2, to_be: better}\n"))
    (tmp_path / "study.yaml").write_text(ABLATION)
    assert load_study(tmp_path / "study.yaml").digest() == with_claim.digest()


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ("{arm: n3, to_be: better}", "'n3' is not an arm"),
        ("{arm: n2, than: n9, to_be: better}", "'n9' is not an arm"),
        ("{arm: n0, to_be: better}", "compares n0 with itself"),
        ("{arm: n2, than: n2, to_be: worse}", "compares n2 with itself"),
        ("{arm: n2, to_be: same}", "to_be: same needs a margin"),
        ("{arm: n2, to_be: lower}", "to_be"),
        ("{arm: n2, to_be: better, margin: 0.0}", "margin"),
        ("{arm: n2, to_be: better, margin: .nan}", "margin"),
        ("{arm: n2, to_be: better, by: 2}", "by"),
        ("{to_be: better}", "arm"),
    ],
)
def test_a_faulty_claim_is_named_with_its_line(tmp_path: Path, claim: str, problem: str) -> None:
    path = written(tmp_path, f"  - {claim}\n")
    with pytest.raises(ConfigError) as refused:
        load_study(path)
    (fault,) = refused.value.faults
    assert problem in str(fault)
    assert f"study.yaml:{len(ABLATION.splitlines()) + 2}" in str(fault)


def test_a_second_claim_about_two_arms_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "  - {arm: n2, to_be: better}\n  - {arm: n2, than: n0, to_be: worse}\n")
    with pytest.raises(ConfigError, match="is a second claim about n2 and n0"):
        load_study(path)


def test_a_search_claims_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expect: has no effect in a study of kind search"):
        load_study(written(tmp_path, "  - {arm: n2, to_be: better}\n", SEARCH))
