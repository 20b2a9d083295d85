"""What a search may vary: plain value objects, free of any engine.

A domain is a set of values of one setting. Domains are frozen, equal where they allow the same values in
the same way, hashable, and go through JSON unchanged; an engine's own objects are made from them elsewhere.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeGuard

from prism_ray.errors import ConfigError, did_you_mean

Scalar = bool | int | float | str

NO_MEMBERS = "-"
"""Text of the empty subset: no member can have this name."""


class Domain(ABC):
    """A set of values that a search may give to one setting."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The domain as a study file writes it, for example `{"int_range": [0, 8]}`."""

    @abstractmethod
    def contains(self, value: object) -> bool:
        """Whether the search may propose `value`; text, numbers and booleans are never taken for each other."""

    @abstractmethod
    def corners(self) -> tuple[Any, ...]:
        """Values that a setting must accept if it is to accept all: the ends of a range, each option of a choice."""

    def encode(self, value: Any) -> Scalar:
        """`value` as the single number or text that engines and trackers keep."""
        assert isinstance(value, (bool, int, float, str))
        return value

    def decode(self, encoded: Any) -> Any:
        """The value that `encode` made `encoded` from; what is a value already comes back as it is."""
        return encoded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and self._text() == other._text()

    def __hash__(self) -> int:
        return hash(self._text())

    def _text(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)


@dataclass(frozen=True, eq=False)
class Uniform(Domain):
    """Decimals from `low` to `high`, both included, each as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range("uniform", self.low, self.high)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def to_json(self) -> dict[str, Any]:
        return {"uniform": [self.low, self.high]}

    def contains(self, value: object) -> bool:
        return _is_within(value, self.low, self.high)

    def corners(self) -> tuple[float, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, eq=False)
class LogUniform(Domain):
    """Decimals from `low` to `high`, both included, each order of magnitude as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range("loguniform", self.low, self.high)
        if self.low <= 0:
            raise ConfigError(f"loguniform starts at {self.low}; its lower end must be above 0")
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))

    def to_json(self) -> dict[str, Any]:
        return {"loguniform": [self.low, self.high]}

    def contains(self, value: object) -> bool:
        return _is_within(value, self.low, self.high)

    def corners(self) -> tuple[float, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, eq=False)
class IntRange(Domain):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range("int_range", self.low, self.high)
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise ConfigError(f"int_range [{self.low}, {self.high}] has an end that is no whole number")

    def to_json(self) -> dict[str, Any]:
        return {"int_range": [self.low, self.high]}

    def contains(self, value: object) -> bool:
        return isinstance(value, int) and _is_within(value, self.low, self.high)

    def corners(self) -> tuple[int, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, eq=False)
class Choice(Domain):
    """One of some numbers, texts or booleans, in no order."""

    options: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2:
            raise ConfigError("choice needs at least two options; a single value belongs in the baseline")
        for option in self.options:
            if not isinstance(option, (bool, int, float, str)):
                raise ConfigError(f"choice has the option {option!r}; options are numbers, texts or booleans")
            if isinstance(option, float) and not math.isfinite(option):
                raise ConfigError(f"choice has the option {option}, which is no finite number")
        # Not by equality alone: to Python, True equals 1.
        if len({(type(option), option) for option in self.options}) < len(self.options):
            raise ConfigError(f"choice {list(self.options)} gives an option twice")

    def to_json(self) -> dict[str, Any]:
        return {"choice": list(self.options)}

    def contains(self, value: object) -> bool:
        return any(type(option) is type(value) and option == value for option in self.options)

    def corners(self) -> tuple[Scalar, ...]:
        return self.options


@dataclass(frozen=True, eq=False)
class Subset(Domain):
    """Some of the names in `of`, at least `min_size` of them, always in the order of `of`."""

    of: tuple[str, ...]
    min_size: int = 0

    def __post_init__(self) -> None:
        if not self.of or len(set(self.of)) < len(self.of):
            raise ConfigError(f"subset of {list(self.of)}: name each member once, and at least one")
        unusable = [name for name in self.of if not name or "+" in name or name == NO_MEMBERS]
        if unusable:
            raise ConfigError(f"subset of {list(self.of)}: {unusable[0]!r} cannot be a member's name")
        if not 0 <= self.min_size <= len(self.of):
            raise ConfigError(f"subset has min_size {self.min_size}; use 0 to {len(self.of)}")
        if self.min_size == len(self.of):
            raise ConfigError(f"subset with min_size {self.min_size} has all members always; lower min_size")

    def to_json(self) -> dict[str, Any]:
        return {"subset": {"of": list(self.of), "min_size": self.min_size}}

    def contains(self, value: object) -> bool:
        return isinstance(value, tuple) and value in set(self.members())

    def members(self) -> Iterable[tuple[str, ...]]:
        """Every subset, small ones first."""
        for size in range(self.min_size, len(self.of) + 1):
            yield from combinations(self.of, size)

    def corners(self) -> tuple[tuple[str, ...], ...]:
        smallest = tuple(combinations(self.of, self.min_size))
        return (*smallest, self.of)

    def encode(self, value: tuple[str, ...]) -> str:
        return "+".join(value) or NO_MEMBERS

    def decode(self, encoded: Any) -> Any:
        if not isinstance(encoded, str):
            return tuple(encoded) if isinstance(encoded, list) else encoded
        return () if encoded == NO_MEMBERS else tuple(encoded.split("+"))


@dataclass(frozen=True)
class Condition:
    """Holds where another searched setting has a value in a stated range or list.

    Attributes:
        path: dotted path of the other setting, which the space names earlier.
        at_least: lowest value at which it holds, or None for no lower bound.
        at_most: highest value at which it holds, or None for no upper bound.
        one_of: values at which it holds, or None for any.
    """

    path: str
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[Scalar, ...] | None = None

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds; never where the other setting was not varied itself."""
        if self.path not in values:
            return False
        value = values[self.path]
        if self.one_of is not None and not any(type(one) is type(value) and one == value for one in self.one_of):
            return False
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or bool(value <= self.at_most)

    def to_json(self) -> dict[str, Any]:
        bounds = {"at_least": self.at_least, "at_most": self.at_most}
        given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
        if self.one_of is not None:
            given["one_of"] = list(self.one_of)
        return {self.path: given}


@dataclass(frozen=True)
class Dimension:
    """One searched setting: its dotted path in a run's settings, its domain, and when it is varied at all."""

    path: str
    domain: Domain
    when: Condition | None = None

    def is_varied(self, values: Mapping[str, Any]) -> bool:
        """Whether the setting is varied, given the values of the dimensions before it; else it keeps its baseline."""
        return self.when is None or self.when.holds(values)

    def to_json(self) -> dict[str, Any]:
        return self.domain.to_json() | ({"when": self.when.to_json()} if self.when is not None else {})


def domain_from_json(written: Mapping[str, Any]) -> Domain:
    """The domain that `Domain.to_json` wrote, or that a study file holds.

    Raises:
        ConfigError: not exactly one known domain, or one that allows nothing.
    """
    if len(written) != 1:
        raise ConfigError(f"{dict(written)!r} does not name one domain; {did_you_mean('', DOMAIN_NAMES)}")
    ((name, arguments),) = written.items()
    if name == "uniform":
        return Uniform(*arguments)
    if name == "loguniform":
        return LogUniform(*arguments)
    if name == "int_range":
        return IntRange(*arguments)
    if name == "choice":
        return Choice(tuple(arguments))
    if name == "subset":
        return Subset(tuple(arguments["of"]), arguments.get("min_size", 0))
    raise ConfigError(f"{name!r} is not a domain; {did_you_mean(name, DOMAIN_NAMES)}")


DOMAIN_NAMES = ("uniform", "loguniform", "int_range", "choice", "subset")


def _is_within(value: object, low: float, high: float) -> bool:
    return _is_number(value) and low <= value <= high


def _is_number(value: object) -> TypeGuard[float]:
    """True for a finite number that is no boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_range(name: str, low: float, high: float) -> None:
    if not (_is_number(low) and _is_number(high)):
        raise ConfigError(f"{name} [{low!r}, {high!r}] has an end that is no finite number")
    if not low < high:
        raise ConfigError(f"{name} [{low}, {high}] is empty or a single value; the first end must be below the second")
