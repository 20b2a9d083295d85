"""The route of a script without a store: for each gene, ask every file again. A store is measured against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cooler
import numpy as np
import pandas as pd
import pyBigWig
import pyfaidx
import torch
from torch import Tensor

from benchmarks.store_data import BIN_BP, SCALARS

_CODES = {"A": 0, "C": 1, "G": 2, "T": 3}


class PlainRoute:
    """Genes read one at a time: pyfaidx, pyBigWig lists, a cooler matrix, rows of a pandas table.

    Args:
        folder: of `make_genome`.
        table: gene table of `make_catalog`.
        window_bp: length of each window.
    """

    def __init__(self, folder: Path, table: Path, window_bp: int) -> None:
        self._fasta = pyfaidx.Fasta(str(folder / "genome.fa"))
        self._tracks = [pyBigWig.open(str(folder / f"{name}.bw")) for name in ("h3k27ac", "dnase")]
        self._map = cooler.Cooler(str(folder / "hic.cool"))
        self._genes = pd.read_csv(table, sep="\t").set_index("gene_id")
        self._half = window_bp // 2

    @property
    def gene_ids(self) -> list[str]:
        """All genes of the table."""
        return self._genes.index.tolist()

    def __getitem__(self, gene_id: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One-hot DNA (L, 4), signals (L, 3), scalars (9,) and label of a gene."""
        row = self._genes.loc[gene_id]
        chrom, tss = str(row["chrom"]), int(row["tss"])
        start, end = tss - self._half, tss + self._half
        size = len(self._fasta[chrom])
        low, high = max(start, 0), min(end, size)
        letters = str(self._fasta[chrom][low:high])
        one_hot = np.zeros((end - start, 4), dtype=np.float32)
        for place, letter in enumerate(letters.upper(), low - start):
            if letter in _CODES:
                one_hot[place, _CODES[letter]] = 1.0
        columns = [self._padded(track.values(chrom, low, high), low - start, end - start) for track in self._tracks]
        columns.append(self._padded(self.contacts(chrom, tss, low, high), low - start, end - start))
        signals = torch.from_numpy(np.stack(columns, axis=1))
        scalars = torch.tensor(row[list(SCALARS)].to_numpy(dtype=np.float32))
        return torch.from_numpy(one_hot), signals, scalars, torch.tensor(float(row["label"]))

    def contacts(self, chrom: str, tss: int, low: int, high: int) -> np.ndarray:
        """Contact of each base of [low, high) with the TSS."""
        first = low // BIN_BP
        matrix = self._map.matrix(balance=True).fetch((chrom, first * BIN_BP, high))
        along = np.nan_to_num(matrix[tss // BIN_BP - first])
        return along[np.arange(low, high) // BIN_BP - first]

    @staticmethod
    def _padded(values: Any, before: int, length: int) -> np.ndarray:
        column = np.zeros(length, dtype=np.float32)
        given = np.nan_to_num(np.array(values, dtype=np.float32))
        column[before : before + len(given)] = given
        return column


def batches(route: PlainRoute, gene_ids: list[str], batch_size: int) -> Any:
    """Batches of genes, read one gene after the other."""
    for start in range(0, len(gene_ids), batch_size):
        yield [
            torch.stack(part)
            for part in zip(*(route[gene] for gene in gene_ids[start : start + batch_size]), strict=True)
        ]
