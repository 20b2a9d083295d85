"""Leave-chromosome-out folds: which chromosomes train, validate and test.

A chromosome has one role in a fold, so no gene and no window is ever in two parts of a split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from prism_ray.errors import ConfigError, FaultList, did_you_mean

Role = Literal["train", "validation", "test"]
ROLES: tuple[Role, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Indices of the genes of each part of a fold, each in ascending order.

    Attributes:
        train: (n_train,) int64.
        validation: (n_validation,) int64.
        test: (n_test,) int64.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Roles of the chromosomes in each fold.

    Attributes:
        table: fold -> chromosome -> role.
    """

    table: Mapping[str, Mapping[str, Role]]

    def __post_init__(self) -> None:
        faults = FaultList()
        for fold, roles in self.table.items():
            for chrom, role in roles.items():
                if role not in ROLES:
                    faults.add(f"folds.{fold}.{chrom}", f"{role!r} is not a role", did_you_mean(str(role), ROLES))
        faults.raise_if_any(ConfigError)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the folds, in their order."""
        return tuple(self.table)

    def roles(self, fold: str) -> dict[str, Role]:
        """Role of each chromosome in a fold.

        Raises:
            ConfigError: there is no such fold.
        """
        if fold not in self.table:
            faults = FaultList()
            faults.add(f"fold {fold!r}", "is not a fold of these data", did_you_mean(fold, self.table))
            faults.raise_if_any(ConfigError)
        return dict(self.table[fold])

    def split(self, fold: str, chroms: Sequence[str] | NDArray[np.str_]) -> Split:
        """Which genes train, validate and test.

        Args:
            fold: name of the fold.
            chroms: chromosome of each gene, (N,).

        Returns:
            A split in which every gene is once.

        Raises:
            ConfigError: an unknown fold, genes on chromosomes without a role, or a part without a gene.
        """
        roles = self.roles(fold)
        names, codes = np.unique(np.asarray(chroms, dtype=np.str_), return_inverse=True)
        faults = FaultList()
        lost = [str(name) for name in names if str(name) not in roles]
        if lost:
            faults.add(f"fold {fold!r}", f"has no role for {', '.join(lost)}, where there are genes")
        faults.raise_if_any(ConfigError)
        role_of = np.array([roles[str(name)] for name in names], dtype=np.str_)
        parts = [np.flatnonzero(np.isin(codes, np.flatnonzero(role_of == role))).astype(np.int64) for role in ROLES]
        for role, part in zip(ROLES, parts, strict=True):
            if not part.size:
                faults.add(f"fold {fold!r}", f"has no {role} gene", "choose a fold whose three parts all hold genes")
        faults.raise_if_any(ConfigError)
        _prove_disjoint(parts, len(codes))
        return Split(*parts)

    def to_json(self) -> dict[str, dict[str, str]]:
        """The table as JSON types."""
        return {fold: {chrom: str(role) for chrom, role in roles.items()} for fold, roles in self.table.items()}

    @classmethod
    def from_json(cls, value: object) -> Folds:
        """Folds from what `to_json` gave.

        Raises:
            ConfigError: the value is not such a table, or holds an unknown role.
        """
        faults = FaultList()
        table: dict[str, dict[str, Role]] = {}
        if not isinstance(value, Mapping):
            faults.add("folds", f"{value!r} is not a mapping of folds")
        else:
            for fold, roles in value.items():
                if not isinstance(roles, Mapping):
                    faults.add(f"folds.{fold}", f"{roles!r} is not a mapping of chromosomes to roles")
                    continue
                table[str(fold)] = {str(chrom): cast(Role, role) for chrom, role in roles.items()}
        faults.raise_if_any(ConfigError)
        return cls(table)


def folds_from_parts(
    parts: Mapping[str, tuple[Iterable[str], Iterable[str]]], chroms: Iterable[str], where: str, faults: FaultList
) -> Folds:
    """Folds that name their validation and test chromosomes; all others train.

    Args:
        parts: fold -> (validation chromosomes, test chromosomes).
        chroms: all chromosomes.
        where: file and place of the folds, for messages.
        faults: takes a chromosome that has two roles in one fold; it keeps the first.
    """
    everything = tuple(chroms)
    table: dict[str, dict[str, Role]] = {}
    for fold, (validation, test) in parts.items():
        roles: dict[str, Role] = {chrom: "train" for chrom in everything}
        named: dict[str, Role] = {}
        for role, members in (("validation", validation), ("test", test)):
            for chrom in members:
                if chrom in named:
                    faults.add(
                        f"{where}.{fold}", f"{chrom} is given twice: {named[chrom]} and {role}", "keep one of the two"
                    )
                    continue
                named[chrom] = cast(Role, role)
        table[fold] = {**roles, **named}
    return Folds(table)


def _prove_disjoint(parts: Sequence[NDArray[np.int64]], n_genes: int) -> None:
    together = np.sort(np.concatenate(parts))
    assert np.array_equal(together, np.arange(n_genes)), "every gene is in one part of a split, and in one only"
