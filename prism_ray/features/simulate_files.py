"""Files in real formats from simulated values: FASTA, bigWig and mcool, the same bytes for the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cooler
import numpy as np
import pandas as pd
import pyBigWig
from numpy.typing import NDArray

from prism_ray.features.sequence import ensure_index

STEP_BP = 10
RESOLUTIONS = (1000, 5000, 10_000)
REACH_BP = 3000
_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)
_LINE_BP = 60
_CONTACT_BINS = 60
_DEPTH = 150.0
# cooler stamps the time of writing, which would make two equal maps differ.
_CREATION_DATE = "2000-01-01T00:00:00"


def write_fasta(path: Path, sequence: dict[str, NDArray[np.uint8]]) -> None:
    """Write chromosomes of codes as FASTA with lines of 60 bases, and its index."""
    with path.open("wb") as stream:
        for chrom, codes in sequence.items():
            stream.write(f">{chrom}\n".encode())
            letters = _LETTERS[codes].tobytes()
            for start in range(0, len(letters), _LINE_BP):
                stream.write(letters[start : start + _LINE_BP] + b"\n")
    ensure_index(path)


def peaks(size: int, tss: NDArray[np.int64], heights: NDArray[np.float64], width_bp: float) -> NDArray[np.float64]:
    """Sum of bell curves at TSSs, one value a step of 10 bp, (size / 10,) float64.

    Args:
        size: length of the chromosome in bp.
        tss: (N,).
        heights: (N,) height of each curve.
        width_bp: their standard deviation.
    """
    centres = (np.arange(size // STEP_BP) + 0.5) * STEP_BP
    track = np.zeros(len(centres))
    for position, height in zip(tss, heights, strict=True):
        low = max(int((position - 5 * width_bp) // STEP_BP), 0)
        high = min(int((position + 5 * width_bp) // STEP_BP) + 1, len(centres))
        track[low:high] += height * np.exp(-0.5 * ((centres[low:high] - position) / width_bp) ** 2)
    return track


def covered(size: int, tss: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Steps of 10 bp within 3 kb of a TSS, (size / 10,): elsewhere tracks have no values."""
    mask = np.zeros(size // STEP_BP, dtype=np.bool_)
    for position in tss:
        mask[max(int(position) - REACH_BP, 0) // STEP_BP : (int(position) + REACH_BP) // STEP_BP] = True
    return mask


def write_bigwig(
    path: Path, sizes: dict[str, int], tracks: dict[str, NDArray[np.float64]], masks: dict[str, NDArray[np.bool_]]
) -> None:
    """Write one value a step of 10 bp as bigWig, runs of covered steps only.

    Args:
        path: file to write.
        sizes: length of each chromosome in bp, multiples of 10.
        tracks: chromosome -> (size / 10,) values.
        masks: chromosome -> (size / 10,) whether a step has a value.
    """
    file = pyBigWig.open(str(path), "w")
    file.addHeader(list(sizes.items()))
    for chrom in sizes:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], masks[chrom].astype(np.int8), [0]])))
        for low, high in zip(edges[::2], edges[1::2], strict=True):
            values = np.round(tracks[chrom][low:high], 3).astype(np.float32)
            file.addEntries(chrom, int(low) * STEP_BP, values=values, span=STEP_BP, step=STEP_BP)
    file.close()


def simulate_contacts(
    states: dict[str, NDArray[np.float64]], random: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bins and raw contact counts at 1 kb; where the state is high, contacts concentrate at short distances.

    Args:
        states: chromosome -> (bins of 1 kb,) background state.
        random: source of chance.

    Returns:
        Bins (chrom, start, end with the last bins as if full) and pixels (bin1_id, bin2_id, count).
    """
    bins, pixels, offset = [], [], 0
    for chrom, state in states.items():
        n_bins = len(state)
        start = np.arange(n_bins, dtype=np.int64) * RESOLUTIONS[0]
        bins.append(pd.DataFrame({"chrom": chrom, "start": start, "end": start + RESOLUTIONS[0]}))
        open_ = 1.0 / (1.0 + np.exp(-1.5 * state))
        for distance in range(min(_CONTACT_BINS, n_bins)):
            first = np.arange(n_bins - distance)
            near = 0.5 * (open_[first] + open_[first + distance]) * np.exp(-distance / 5.0)
            count = random.poisson(_DEPTH * (distance + 1.0) ** -0.87 * (0.4 + 2.0 * near))
            pixels.append(
                pd.DataFrame({"bin1_id": first + offset, "bin2_id": first + distance + offset, "count": count})
            )
        offset += n_bins
    return pd.concat(bins, ignore_index=True), pd.concat(pixels, ignore_index=True)


def write_mcool(path: Path, sizes: dict[str, int], bins: pd.DataFrame, pixels: pd.DataFrame, assembly: str) -> None:
    """Write a contact map with three resolutions, each with balancing weights.

    Args:
        path: file to write.
        sizes: length of each chromosome in bp.
        bins: bins of 1 kb, of `simulate_contacts`.
        pixels: their counts.
        assembly: name of the genome.
    """
    for resolution in RESOLUTIONS:
        coarse, mapping = _coarse_bins(bins, sizes, resolution)
        summed = pixels.assign(
            bin1_id=mapping[pixels["bin1_id"].to_numpy()], bin2_id=mapping[pixels["bin2_id"].to_numpy()]
        )
        summed = summed.groupby(["bin1_id", "bin2_id"])["count"].sum().reset_index()
        summed = summed[summed["count"] > 0].reset_index(drop=True)
        coarse["weight"] = _balance(len(coarse), summed)
        single = path.with_suffix(f".{resolution}.cool")
        cooler.create_cooler(str(single), coarse, summed, assembly=assembly, ordered=True)
        with cooler.Cooler(str(single)).open("r+") as group:
            group.attrs["creation-date"] = _CREATION_DATE
        # The replaced date stays in the file's free space; a copy has none.
        cooler.fileops.cp(str(single), f"{path}::/resolutions/{resolution}")
        single.unlink()
    with cooler.Cooler(f"{path}::/resolutions/{RESOLUTIONS[0]}").open("r+") as group:
        group.file.attrs["format"] = "HDF5::MCOOL"
        group.file.attrs["format-version"] = 2


def _coarse_bins(bins: pd.DataFrame, sizes: dict[str, int], resolution: int) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Bins of a resolution, and for each bin of 1 kb the one it falls in."""
    parts, mapping, offset = [], [], 0
    for chrom, size in sizes.items():
        start = np.arange(0, size, resolution, dtype=np.int64)
        parts.append(pd.DataFrame({"chrom": chrom, "start": start, "end": np.minimum(start + resolution, size)}))
        mapping.append(bins.loc[bins["chrom"] == chrom, "start"].to_numpy() // resolution + offset)
        offset += len(start)
    return pd.concat(parts, ignore_index=True), np.concatenate(mapping)


def _balance(n_bins: int, pixels: pd.DataFrame) -> NDArray[np.float64]:
    """Weights w with which every bin's contacts w_i w_j c_ij sum to 1, (n_bins,); NaN for bins without contacts.

    Source: Imakaev et al. 2012, iterative correction. Written out because `cooler balance` masks the
    whole of a chromosome that has as few bins as ours.
    """
    first, second = pixels["bin1_id"].to_numpy(), pixels["bin2_id"].to_numpy()
    count = pixels["count"].to_numpy(dtype=np.float64)
    twice = np.where(first == second, 0.0, 1.0)

    def margins(values: NDArray[np.float64]) -> NDArray[Any]:
        return np.bincount(first, values, n_bins) + np.bincount(second, values * twice, n_bins)

    empty = margins(count) == 0
    weight = np.ones(n_bins)
    for _ in range(60):
        sums = margins(count * weight[first] * weight[second])
        weight /= np.sqrt(np.where(empty, 1.0, sums))
    weight[empty] = np.nan
    return weight
