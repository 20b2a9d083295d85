"""Ways to spoil a copy of a catalog and its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyBigWig
import yaml

Content = dict[str, Any]


def rewrite(folder: Path, change: Callable[[Content], object]) -> None:
    path = folder / "catalog.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def edit_table(folder: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    path = folder / name
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, sep="\t", index=False)


def put(name: str, column: str, row: int, value: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        def write(table: pd.DataFrame) -> None:
            table.loc[row, column] = value

        edit_table(folder, name, write)

    return change


def write_bigwig(path: Path, sizes: list[tuple[str, int]], value: float = 1.0) -> None:
    file = pyBigWig.open(str(path), "w")
    file.addHeader(sizes)
    for chrom, size in sizes:
        file.addEntries([chrom], [0], ends=[size], values=[value])
    file.close()


def sizes_of(folder: Path) -> list[tuple[str, int]]:
    rows = (line.split("\t") for line in (folder / "genome.fa.fai").read_text().splitlines())
    return [(row[0], int(row[1])) for row in rows]


def set_signal(name: str, **settings: object) -> Callable[[Path], None]:
    return lambda folder: rewrite(
        folder, lambda content: content["cell_types"]["K562"]["signals"][name].update(settings)
    )


def set_label(**settings: object) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda content: content["cell_types"]["K562"]["label"].update(settings))


def set_field(name: str, value: object) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda content: content.update({name: value}))
