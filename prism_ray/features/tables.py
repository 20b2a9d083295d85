"""Tables as catalogs name them: TSV, CSV or Parquet, read without guessing.

Everything is read as text first; numbers are made here, so that what is not a number is said, and
no identifier turns into one. The numbers of a Parquet file come through that text unchanged.
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
_PARQUET = (".parquet", ".pq")
_LISTED = 3
# What pandas and pyarrow raise for files that are damaged or of another kind.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, NotImplementedError)


def read_table(path: Path, columns: Iterable[str] | None, where: str, faults: FaultList) -> pd.DataFrame | None:
    """Columns of a table as text, one row a line; None where there are faults.

    Args:
        path: TSV or CSV file by suffix, with .gz or without, or Parquet file.
        columns: names wanted; None takes all.
        where: place in the catalog that names the table.
        faults: takes a missing or unreadable file, an unknown suffix and unknown columns.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    separator = _SEPARATORS.get(suffixes[-1]) if suffixes else None
    if separator is None and path.suffix not in _PARQUET:
        faults.add(
            where,
            f"{path} is neither TSV, CSV nor Parquet by its name",
            "use a file named .tsv, .txt or .csv, these with .gz, or .parquet",
        )
        return None
    if not path.is_file():
        faults.add(where, f"{path}: no such file", "give the path of a table, from where the catalog lies")
        return None
    try:
        table = _read_parquet(path) if separator is None else _read_text(path, separator)
    except _UNREADABLE as error:
        faults.add(where, f"{path} cannot be read as a table ({error})")
        return None
    if table.empty:
        faults.add(where, f"{path} holds no rows")
        return None
    wanted = list(table.columns) if columns is None else list(columns)
    unknown = [name for name in wanted if name not in table.columns]
    for name in unknown:
        faults.add(where, f"{path} has no column {name!r}", did_you_mean(name, map(str, table.columns)))
    twice = [name for name in wanted if list(table.columns).count(name) > 1]
    for name in dict.fromkeys(twice):
        faults.add(where, f"{path} has the column {name!r} twice", "keep one of the two")
    return None if unknown or twice else table[wanted]


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """Columns of a TSV or CSV file, named by its first line."""
    # pandas would rename a column that is there twice, and shift all columns where rows are longer than the header.
    lines = pd.read_csv(path, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    table = lines.iloc[1:].fillna("").reset_index(drop=True)
    table.columns = pd.Index(lines.iloc[0].fillna("").tolist())
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    """Columns of a Parquet file as text; an index that has a name is a column, one that has none is left out."""
    with path.open("rb") as stream:
        # Arrow's types keep whole numbers whole where values are missing.
        table = pd.read_parquet(stream, engine="pyarrow", dtype_backend="pyarrow")
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    columns = {str(name): [_text(value) for value in table[name].tolist()] for name in table.columns}
    return pd.DataFrame(columns, dtype="str")


def _text(value: object) -> str:
    """Text of a value, from which a number comes back as it was; no value is no text."""
    if value is None or value is pd.NA:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)


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
    finite = np.isfinite(parsed)
    parsed[finite] = [float(text) for text in values[finite]]  # pandas before 3 may miss the nearest number
    bad = ~finite & ~missing.to_numpy()
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
