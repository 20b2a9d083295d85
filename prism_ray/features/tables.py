"""Tables as catalogs name them: TSV or CSV text, read without guessing.

Everything is read as text first; numbers are made here, so that what is not a number is said, and
no identifier turns into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prism_ray.errors import FaultList, did_you_mean

MISSING_TEXT = frozenset({"", "NA", "N/A", "NaN", "nan", "None", "null", "."})
_SEPARATORS = {".tsv": "\t", ".txt": "\t", ".csv": ","}
_LISTED = 3


def read_table(path: Path, columns: Iterable[str] | None, where: str, faults: FaultList) -> pd.DataFrame | None:
    """Columns of a table as text, one row a line; None where there are faults.

    Args:
        path: TSV or CSV file by suffix, with .gz or without.
        columns: names wanted; None takes all.
        where: place in the catalog that names the table.
        faults: takes a missing or unreadable file, an unknown suffix and unknown columns.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    separator = _SEPARATORS.get(suffixes[-1]) if suffixes else None
    if separator is None:
        faults.add(
            where,
            f"{path} is neither TSV nor CSV by its name",
            "use a file named .tsv, .txt or .csv, or these with .gz",
        )
        return None
    if not path.is_file():
        faults.add(where, f"{path}: no such file", "give the path of a table, from where the catalog lies")
        return None
    try:
        # Text of every column: dtype=str keeps "1" and "01" apart.
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, EOFError, ValueError) as error:
        faults.add(where, f"{path} cannot be read as a table ({error})")
        return None
    if table.empty:
        faults.add(where, f"{path} holds no rows")
        return None
    wanted = list(table.columns) if columns is None else list(columns)
    unknown = [name for name in wanted if name not in table.columns]
    for name in unknown:
        faults.add(where, f"{path} has no column {name!r}", did_you_mean(name, map(str, table.columns)))
    return None if unknown else table[wanted]


def numbers(values: pd.Series[str], what: str, where: str, faults: FaultList) -> NDArray[np.float64]:
    """Numbers of a text column, (N,) float64; NaN where the text says that there is none.

    Args:
        values: the texts; the index holds row numbers from 0.
        what: what the column is, for messages.
        where: file and column.
        faults: takes texts that are not finite numbers.
    """
    missing = values.str.strip().isin(MISSING_TEXT)
    parsed = pd.to_numeric(values.where(~missing), errors="coerce").to_numpy(dtype=np.float64, copy=True)
    bad = ~np.isfinite(parsed) & ~missing.to_numpy()
    if bad.any():
        faults.add(
            where, f"{counted(bad, f'{what} is not a finite number', values)}", "write numbers, or leave the cell empty"
        )
        parsed[bad] = np.nan
    return parsed


def counted(bad: NDArray[np.bool_], problem: str, shown: pd.Series[str]) -> str:
    """Text that says in how many rows a problem is, with the first few of them.

    Args:
        bad: (N,) rows with the problem.
        problem: what is wrong in each of them.
        shown: (N,) text that stands for a row; its index holds the table's row numbers from 0.
    """
    numbered = zip(shown.index.to_numpy()[bad], shown[bad], strict=True)
    rows = [f"{text!r} (row {row + 1})" for row, text in numbered]
    return f"{problem} in {len(rows)} of {len(bad)} rows: {_first(rows)}"


def counted_genes(bad: NDArray[np.bool_], problem: str, shown: pd.Series[str]) -> str:
    """The same for genes in store order, which is no table's: without row numbers."""
    genes = [repr(text) for text in shown[bad]]
    return f"{problem} in {len(genes)} of {len(bad)} genes: {_first(genes)}"


def _first(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_LISTED]) + (", ..." if len(texts) > _LISTED else "")
