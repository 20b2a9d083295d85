"""Claims of a study file about its arms, judged by the runs: declared with the study, not found in its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from prism_ray.config import Name
from prism_ray.documents import Document, StrictModel
from prism_ray.errors import FaultList, did_you_mean

ToBe = Literal["better", "worse", "same"]
Margin = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ExpectEntry(StrictModel):
    """A claim about an arm."""

    arm: Name
    """Arm that it is about."""
    to_be: ToBe
    """What is claimed of it by the study's report metric; `same` needs a margin."""
    than: Name | None = None
    """Arm that it is compared with; the one that its differences are taken from where not given."""
    margin: Margin | None = None
    """Largest difference of the report metric that does not matter."""

    @model_validator(mode="after")
    def _same_needs_a_margin(self) -> ExpectEntry:
        if self.to_be == "same" and self.margin is None:
            raise ValueError("to_be: same needs a margin, the largest difference that does not matter")
        return self


@dataclass(frozen=True)
class Expectation:
    """A claim about two arms.

    Attributes:
        arm: that it is about.
        than: arm that it is compared with.
        to_be: what is claimed of `arm`.
        margin: largest difference of the report metric that does not matter; None where none is declared.
    """

    arm: str
    than: str
    to_be: ToBe
    margin: float | None


def build_expectations(
    document: Document, entries: Sequence[ExpectEntry], references: Mapping[str, str], faults: FaultList
) -> tuple[Expectation, ...]:
    """The claims, with their faults added to `faults`; faulty ones are left out.

    Args:
        references: arm that each arm's differences are taken from; a baseline's is itself.
    """
    found: dict[tuple[str, str], int] = {}
    expectations = []
    for index, entry in enumerate(entries):
        where = document.where(("expect", index))
        than = entry.than or references.get(entry.arm, "")
        unknown = [name for name in (entry.arm, entry.than) if name is not None and name not in references]
        for name in unknown:
            faults.add(where, f"{name!r} is not an arm", did_you_mean(name, list(references)))
        if unknown:
            continue
        if entry.arm == than:
            faults.add(where, f"compares {entry.arm} with itself", "name another arm in `than`, or claim it of another")
        elif (entry.arm, than) in found:
            faults.add(where, f"is a second claim about {entry.arm} and {than}", "keep one: both cannot be judged")
        else:
            found[(entry.arm, than)] = index
            expectations.append(Expectation(entry.arm, than, entry.to_be, entry.margin))
    return tuple(expectations)
