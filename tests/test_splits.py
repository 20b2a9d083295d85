from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.errors import ConfigError, FaultList
from prism_ray.splits import ROLES, Folds, folds_from_parts

CHROMS = ["chr1", "chr2", "chr3", "chrX"]
FOLDS = Folds({"fold_1": {"chr1": "train", "chr2": "validation", "chr3": "test", "chrX": "train"}})


@given(st.lists(st.sampled_from(CHROMS), max_size=40))
def test_every_gene_is_in_one_part_and_each_part_keeps_its_chromosomes(chroms: list[str]) -> None:
    chroms = [*chroms, "chr1", "chr2", "chr3"]
    split = FOLDS.split("fold_1", chroms)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(chroms)))
    for role, part in parts.items():
        assert part.dtype == np.int64
        assert part.tolist() == [i for i, chrom in enumerate(chroms) if FOLDS.roles("fold_1")[chrom] == role]


def test_folds_survive_json() -> None:
    assert Folds.from_json(json.loads(json.dumps(FOLDS.to_json()))) == FOLDS
    assert FOLDS.names == ("fold_1",)
    assert ROLES == ("train", "validation", "test")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "folds: [] is not a mapping of folds"),
        ({"fold_1": "chr1"}, "folds.fold_1: 'chr1' is not a mapping of chromosomes to roles"),
        (
            {"f": {"chr1": "trian"}},
            "folds.f.chr1: 'trian' is not a role; use one of test, train, validation. Did you mean 'train'?",
        ),
    ],
)
def test_json_that_is_no_folds_is_refused(value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Folds.from_json(value)
    assert str(caught.value) == message


def test_unknown_fold_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"fold 'fold1' is not a fold of these data|Did you mean 'fold_1'\?"):
        FOLDS.roles("fold1")


def test_chromosome_without_a_role_is_refused() -> None:
    with pytest.raises(ConfigError, match="fold 'fold_1': has no role for chrY, where there are genes"):
        FOLDS.split("fold_1", ["chr1", "chrY"])


def test_empty_parts_are_refused_together() -> None:
    with pytest.raises(ConfigError) as caught:
        FOLDS.split("fold_1", ["chr1"])
    assert [fault.problem for fault in caught.value.faults] == ["has no validation gene", "has no test gene"]


def test_chromosomes_that_are_not_named_train() -> None:
    faults = FaultList()
    folds = folds_from_parts({"a": (["chr2"], ["chr3"])}, CHROMS, "catalog.yaml: folds", faults)
    assert not faults
    assert folds.roles("a") == FOLDS.roles("fold_1")


def test_two_roles_of_one_chromosome_are_a_fault() -> None:
    faults = FaultList()
    folds_from_parts({"a": (["chr2"], ["chr2"])}, CHROMS, "catalog.yaml: folds", faults)
    assert [str(fault) for fault in faults.faults] == [
        "catalog.yaml: folds.a: chr2 is given twice: validation and test; keep one of the two"
    ]
