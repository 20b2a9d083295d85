"""Kinds of values that several parts of a study file hold."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import Field

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Patch = dict[str, Any]
"""Settings by dotted path."""
Values = TypeVar("Values", bound="tuple[object, ...] | None")


def once_each(values: Values) -> Values:
    """The values, if there is at least one and none twice; None as it is.

    Raises:
        ValueError: otherwise.
    """
    if values is None:
        return values
    if not values:
        raise ValueError("is empty; give at least one")
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"gives {twice[0]!r} twice")
    return values
