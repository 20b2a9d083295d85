"""Settings as the texts that MLflow keeps, and back into typed columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pandas as pd

LONGEST_VALUE = 6000
"""Characters that MLflow keeps of a parameter."""
EMPTY_LIST = "none"


def encode_parameter(value: Any) -> str:
    """Text of a setting as people read it in a table: lists joined by `+`, an empty one `none`, booleans `true`.

    A longer text than MLflow takes is cut and ends in `...`; the run's config file has it in full.
    """
    if isinstance(value, (list, tuple)):
        text = "+".join(encode_parameter(item) for item in value) or EMPTY_LIST
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def decode_column(texts: Iterable[str | None]) -> pd.Series:
    """Column of a parameter over runs: Int64, Float64 or boolean where every text is one, else text; missing is NA."""
    values = list(texts)
    given = [text for text in values if text is not None]
    for convert, dtype in ((_integer, "Int64"), (_real, "Float64"), (_boolean, "boolean")):
        typed = [convert(text) for text in given]
        if given and all(value is not None for value in typed):
            iterator = iter(typed)
            return pd.Series([None if text is None else next(iterator) for text in values], dtype=dtype)
    return pd.Series(values, dtype="string")


def _integer(text: str) -> int | None:
    try:
        return int(text) if text.strip() == text and "_" not in text else None
    except ValueError:
        return None


def _real(text: str) -> float | None:
    try:
        return float(text) if text.strip() == text and "_" not in text else None
    except ValueError:
        return None


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)
