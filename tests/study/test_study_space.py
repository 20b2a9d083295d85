"""Domains: what they contain, that they go through JSON unchanged, and what they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.errors import ConfigError
from prism_ray.study.space import (
    Choice,
    Condition,
    Dimension,
    Domain,
    IntRange,
    LogUniform,
    Subset,
    Uniform,
    domain_from_json,
)

names = st.text("abcdefgh0123456789_", min_size=1, max_size=6)
ends = st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scalars = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-9, 9), names)
domains: st.SearchStrategy[Domain] = st.one_of(
    ends.map(lambda pair: Uniform(pair[0] / 7, pair[1] / 7)),
    ends.map(lambda pair: LogUniform(10.0 ** (pair[0] / 10), 10.0 ** (pair[1] / 10))),
    ends.map(lambda pair: IntRange(*pair)),
    st.lists(scalars, min_size=2, max_size=5, unique_by=lambda value: (type(value), value)).map(
        lambda options: Choice(tuple(options))
    ),
    st.lists(names, min_size=1, max_size=4, unique=True).flatmap(
        lambda of: st.integers(0, len(of) - 1).map(lambda size: Subset(tuple(of), size))
    ),
)


@given(domains)
def test_json_round_trip_keeps_domain_and_hash(domain: Domain) -> None:
    again = domain_from_json(json.loads(json.dumps(domain.to_json())))
    assert again == domain
    assert hash(again) == hash(domain)
    assert type(again) is type(domain)


@given(domains, domains)
def test_domains_are_equal_exactly_where_their_json_text_is(one: Domain, other: Domain) -> None:
    same = json.dumps(one.to_json()) == json.dumps(other.to_json())
    assert (one == other) == same


@given(domains)
def test_corners_are_inside_and_survive_encoding(domain: Domain) -> None:
    for value in domain.corners():
        assert domain.contains(value)
        encoded = domain.encode(value)
        assert isinstance(encoded, (bool, int, float, str))
        assert domain.decode(encoded) == value


@given(st.lists(names, min_size=1, max_size=5, unique=True))
def test_subset_members_are_all_subsets_of_enough_names(of: list[str]) -> None:
    for min_size in range(len(of)):
        domain = Subset(tuple(of), min_size)
        # A subset is a bit pattern: an oracle that knows nothing of combinations.
        expected = {
            tuple(name for bit, name in enumerate(of) if pattern >> bit & 1)
            for pattern in range(2 ** len(of))
            if pattern.bit_count() >= min_size
        }
        members = list(domain.members())
        assert set(members) == expected
        assert len(members) == len(expected)
        assert len({domain.encode(member) for member in members}) == len(members)


@pytest.mark.parametrize(
    ("domain", "value", "inside"),
    [
        (Uniform(0, 2), 0, True),
        (Uniform(0, 2), 2.0, True),
        (Uniform(0, 2), 2.1, False),
        (Uniform(0, 2), True, False),
        (Uniform(0, 2), "1", False),
        (Uniform(0, 2), float("nan"), False),
        (LogUniform(1e-4, 1e-2), 1e-4, True),
        (LogUniform(1e-4, 1e-2), 1e-5, False),
        (IntRange(0, 8), 8, True),
        (IntRange(0, 8), 9, False),
        (IntRange(0, 8), 1.0, False),
        (IntRange(0, 8), True, False),
        (Choice((0, 1)), True, False),
        (Choice((0, 1)), 1.0, False),
        (Choice((500, 1000)), 500, True),
        (Subset(("a", "b"), 1), ("a", "b"), True),
        (Subset(("a", "b"), 1), ("b", "a"), False),
        (Subset(("a", "b"), 1), (), False),
        (Subset(("a", "b"), 1), "a", False),
    ],
)
def test_contains(domain: Domain, value: Any, inside: bool) -> None:
    assert domain.contains(value) is inside


def test_numbers_and_booleans_are_different_options() -> None:
    assert Choice((0, 1)) != Choice((False, True))
    assert Uniform(0, 2) == Uniform(0.0, 2.0)
    assert Uniform(1, 2) != LogUniform(1, 2)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"uniform": [2, 0]}, "empty or a single value"),
        ({"uniform": [0, float("inf")]}, "no finite number"),
        ({"loguniform": [0, 1]}, "lower end must be above 0"),
        ({"int_range": [3, 3]}, "empty or a single value"),
        ({"int_range": [0, 2.5]}, "no whole number"),
        ({"int_range": [False, True]}, "no finite number"),
        ({"choice": [1]}, "at least two options"),
        ({"choice": [1, 1]}, "gives an option twice"),
        ({"choice": [1, [2]]}, "options are numbers, texts or booleans"),
        ({"choice": [1.0, float("nan")]}, "no finite number"),
        ({"subset": {"of": []}}, "name each member once"),
        ({"subset": {"of": ["a", "a"]}}, "name each member once"),
        ({"subset": {"of": ["a", "b+c"]}}, "'b\\+c' cannot be a member's name"),
        ({"subset": {"of": ["a", "-"]}}, "'-' cannot be a member's name"),
        ({"subset": {"of": ["a"], "min_size": 2}}, "min_size 2; use 0 to 1"),
        ({"subset": {"of": ["a"], "min_size": 1}}, "all members always"),
        ({"log_uniform": [1, 2]}, "'log_uniform' is not a domain.*Did you mean 'loguniform'"),
        ({"uniform": [0, 1], "choice": [1, 2]}, "does not name one domain"),
    ],
)
def test_domains_that_allow_nothing_are_refused(written: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        domain_from_json(written)


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        (Condition("n", at_least=1), {"n": 1}, True),
        (Condition("n", at_least=1), {"n": 0}, False),
        (Condition("n", at_most=3), {"n": 4}, False),
        (Condition("n", at_least=1, at_most=3), {"n": 2}, True),
        (Condition("n", at_least=1), {}, False),
        (Condition("n", one_of=("a", "b")), {"n": "b"}, True),
        (Condition("n", one_of=(1,)), {"n": True}, False),
    ],
)
def test_condition(condition: Condition, values: dict[str, Any], holds: bool) -> None:
    assert condition.holds(values) is holds
    assert Dimension("m", Uniform(0, 1), condition).is_varied(values) is holds


def test_dimension_as_json_says_its_condition() -> None:
    dimension = Dimension("loss.alpha", Uniform(0, 2), Condition("model.n_states", at_least=1))
    assert dimension.to_json() == {"uniform": [0.0, 2.0], "when": {"model.n_states": {"at_least": 1}}}
