"""The structural causal model of the simulator: genes, hidden states, and what they cause.

The equations are in `EQUATIONS`, which is written beside the simulated data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from prism_ray.documents import StrictModel
from prism_ray.features.sequence import encode, reverse_complement

CELL_TYPES = ("K562", "GM12878")
MOTIFS = ("TGACTCAGCA", "GGCGGAAGTG", "AAGGTCACCT")
MOTIF_HALF_BP = 1000
STATE_BIN_BP = 1000
TEST_CHROM = "chr2"

EQUATIONS = f"""\
One gene g in one cell type; e_* are independent standard normal numbers.

  state       U = z(TSS)             hidden background state: standard normal along the genome, smooth over
                                     `state_length_bp`, shared in part by the cell types
  motif score M = sum_k w_k n_k      n_k: occurrences of motif k ({", ".join(MOTIFS)}) on either strand
                                     within {MOTIF_HALF_BP} bp of the TSS; w = `motif_weights`
  activity    A = `activity_per_motif` M + `activity_noise` e_A
  H3K27ac     H = A + `leak` U + `h3k27ac_noise` e_H
  expression  Y = `intercept` + `motif_effect` M + `activity_effect` A + c U + `label_noise` e_Y

c is `confounding`, except for the genes of {TEST_CHROM} (the test chromosome of fold_1), where it is
`test_confounding`: where the two differ, what a model learned about U does not hold on the test genes.
The causal effect of a gene is `motif_effect` M + `activity_effect` A; U has none in it.

What is measured: sequence holds the motifs; the H3K27ac track around the TSS is proportional to
exp({{h_gain}} H); DNase-seq and Hi-C follow U alone: DNase is proportional to exp({{d_gain}} U), and contacts
concentrate at short distances where U is high. The label is Y.
"""
H3K27AC_GAIN = 0.8
DNASE_GAIN = 0.7
EQUATIONS = EQUATIONS.format(h_gain=H3K27AC_GAIN, d_gain=DNASE_GAIN)


class CausalModel(StrictModel):
    """Sizes of the causes; units are those of the label unless stated."""

    motif_weights: tuple[float, float, float] = (0.5, 0.5, -0.5)
    """Weight w_k of one occurrence of each motif in the motif score."""
    motif_rate: float = 1.5
    """Mean number of planted occurrences of each motif a gene."""
    activity_per_motif: float = 0.7
    """Activity a unit of motif score."""
    activity_noise: float = 0.5
    """Standard deviation of the activity that motifs do not explain."""
    leak: float = 0.6
    """H3K27ac a unit of background state."""
    h3k27ac_noise: float = 0.2
    """Standard deviation of the H3K27ac level given activity and state."""
    intercept: float = 3.0
    """Expression where all causes are 0."""
    motif_effect: float = 0.4
    """Expression a unit of motif score, not by way of the activity."""
    activity_effect: float = 0.6
    """Expression a unit of activity."""
    label_noise: float = 0.3
    """Standard deviation of expression given all causes."""
    state_length_bp: int = 30_000
    """Distance over which the correlation of the background state falls to 1/e, in bp."""
    state_shared: float = 0.5
    """Correlation of the background state between the cell types."""


class SimulationConfig(StrictModel):
    """What is simulated."""

    genes: int = Field(default=400, ge=24, le=20_000)
    """Number of genes, spread evenly over the chromosomes."""
    chromosomes: int = Field(default=8, ge=6, le=99)
    """Number of chromosomes; as many folds."""
    seed: int = Field(default=7, ge=0, lt=2**31)
    """Seed of all chance; the same seed gives the same bytes."""
    confounding: float = Field(default=1.0, strict=False, allow_inf_nan=False)
    """Expression a unit of background state: how strongly the state is correlated with expression."""
    test_confounding: float | None = Field(default=None, allow_inf_nan=False)
    """The same on the test chromosome of fold_1; equal to `confounding` where not given."""
    causal: CausalModel = CausalModel()
    """Sizes of all other causes."""

    @model_validator(mode="after")
    def _enough_genes(self) -> SimulationConfig:
        if self.genes < 4 * self.chromosomes:
            raise ValueError(
                f"{self.genes} genes are too few for {self.chromosomes} chromosomes; use at least 4 a chromosome"
            )
        return self

    @property
    def confounding_on_test(self) -> float:
        """Confounding on the test chromosome of fold_1."""
        return self.confounding if self.test_confounding is None else self.test_confounding


@dataclass(frozen=True)
class Genome:
    """A genome with genes on it.

    Attributes:
        chrom_sizes: length of each chromosome in bp; multiples of 10.
        sequence: chromosome -> (size,) uint8 codes.
        genes: gene_id, gene_name, chrom, tss, strand, one row a gene, in genomic order.
        motif_counts: (N, 3) int64, occurrences within 1 kb of each TSS.
    """

    chrom_sizes: dict[str, int]
    sequence: dict[str, NDArray[np.uint8]]
    genes: pd.DataFrame
    motif_counts: NDArray[np.int64]


def place_genes(config: SimulationConfig, random: np.random.Generator) -> tuple[pd.DataFrame, dict[str, int]]:
    """Genes and chromosome lengths: mostly 6 kb or more apart, some in pairs, some near a chromosome's end."""
    rows: list[tuple[str, int]] = []
    sizes: dict[str, int] = {}
    each, rest = divmod(config.genes, config.chromosomes)
    for number in range(config.chromosomes):
        chrom = f"chr{number + 1}"
        position = int(random.integers(800, 2500) if number % 2 else random.integers(6000, 9000))
        n_genes = each + (number < rest)
        for gene in range(n_genes):
            if gene:
                paired = gene % 12 == 2
                position += int(random.integers(200, 900) if paired else 6000 + random.exponential(6000))
            rows.append((chrom, position))
        tail = random.integers(6000, 9000) if number % 2 else random.integers(800, 2500)
        sizes[chrom] = 10 * -(-(position + int(tail)) // 10)
    genes = pd.DataFrame(rows, columns=["chrom", "tss"])
    genes.insert(0, "gene_id", [f"SIMG{number:08d}" for number in range(1, len(rows) + 1)])
    genes.insert(1, "gene_name", [f"GENE{number}" for number in range(1, len(rows) + 1)])
    genes["strand"] = random.choice(["+", "-"], size=len(rows))
    return genes, sizes


def simulate_genome(config: SimulationConfig, random: np.random.Generator) -> Genome:
    """Chromosomes of chance DNA with motifs planted around the genes."""
    genes, sizes = place_genes(config, random)
    sequence: dict[str, NDArray[np.uint8]] = {}
    motifs = [encode(motif.encode()) for motif in MOTIFS]
    counts = np.zeros((len(genes), len(motifs)), dtype=np.int64)
    for chrom, size in sizes.items():
        bases = random.choice(np.arange(4, dtype=np.uint8), size=size, p=[0.29, 0.21, 0.21, 0.29])
        here = genes.index[genes["chrom"] == chrom]
        tss = genes.loc[here, "tss"].to_numpy()
        _plant(bases, tss, motifs, config.causal.motif_rate, random)
        # A gap in the assembly, between the genes.
        middle = (int(tss[0]) + int(tss[1])) // 2
        bases[middle - 100 : middle + 100] = 4
        sequence[chrom] = bases
        for column, motif in enumerate(motifs):
            counts[here, column] = count_motif(bases, motif, tss)
    return Genome(sizes, sequence, genes, counts)


def _plant(
    bases: NDArray[np.uint8],
    tss: NDArray[np.int64],
    motifs: list[NDArray[np.uint8]],
    rate: float,
    random: np.random.Generator,
) -> None:
    slots = np.arange(-MOTIF_HALF_BP + 50, MOTIF_HALF_BP - 50, 25)
    for centre in tss:
        free = iter(random.permutation(slots))
        for motif in motifs:
            for _ in range(min(int(random.poisson(rate)), 5)):
                start = int(centre) + int(next(free))
                written = motif if random.random() < 0.5 else reverse_complement(motif)
                if start >= 0 and start + len(motif) <= len(bases):
                    bases[start : start + len(motif)] = written


def count_motif(bases: NDArray[np.uint8], motif: NDArray[np.uint8], tss: NDArray[np.int64]) -> NDArray[np.int64]:
    """Occurrences of a motif on either strand that lie within 1 kb of each TSS, (N,) int64."""
    views = np.lib.stride_tricks.sliding_window_view(bases, len(motif))
    found = np.zeros(len(views), dtype=np.bool_)
    for written in (motif, reverse_complement(motif)):
        found |= (views == written).all(axis=1)
    starts = np.flatnonzero(found)
    low = np.searchsorted(starts, tss - MOTIF_HALF_BP, side="left")
    high = np.searchsorted(starts, tss + MOTIF_HALF_BP - len(motif), side="right")
    return (high - low).astype(np.int64)


def simulate_states(
    sizes: dict[str, int], causal: CausalModel, random: np.random.Generator
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Background state, cell type -> chromosome -> (bins of 1 kb,) float64, standard normal and smooth."""
    keep = float(np.exp(-STATE_BIN_BP / causal.state_length_bp))
    states: dict[str, dict[str, NDArray[np.float64]]] = {cell: {} for cell in CELL_TYPES}
    for chrom, size in sizes.items():
        n_bins = -(-size // STATE_BIN_BP)
        shared = _smooth(random.standard_normal(n_bins), keep)
        for cell in CELL_TYPES:
            own = _smooth(random.standard_normal(n_bins), keep)
            share = causal.state_shared
            states[cell][chrom] = np.sqrt(share) * shared + np.sqrt(1 - share) * own
    return states


def _smooth(noise: NDArray[np.float64], keep: float) -> NDArray[np.float64]:
    """First-order autoregression with variance 1."""
    out = noise.copy()
    for step in range(1, len(out)):
        out[step] = keep * out[step - 1] + np.sqrt(1 - keep**2) * noise[step]
    return out


def simulate_expression(
    config: SimulationConfig,
    genome: Genome,
    states: dict[str, dict[str, NDArray[np.float64]]],
    random: np.random.Generator,
) -> pd.DataFrame:
    """The truth, one row a gene and cell type; columns as in `EQUATIONS`."""
    causal, genes = config.causal, genome.genes
    score = genome.motif_counts @ np.array(causal.motif_weights)
    on_test = genes["chrom"].eq(TEST_CHROM).to_numpy()
    strength = np.where(on_test, config.confounding_on_test, config.confounding)
    tables = []
    for cell in CELL_TYPES:
        state = np.array(
            [states[cell][chrom][tss // STATE_BIN_BP] for chrom, tss in zip(genes["chrom"], genes["tss"], strict=True)]
        )
        noise = random.standard_normal((4, len(genes)))
        activity = causal.activity_per_motif * score + causal.activity_noise * noise[0]
        effect = causal.motif_effect * score + causal.activity_effect * activity
        table = genes[["gene_id", "chrom", "tss"]].copy()
        table["cell_type"] = cell
        table["state"] = state
        for number in range(len(MOTIFS)):
            table[f"motif_{number + 1}"] = genome.motif_counts[:, number]
        table["motif_score"] = score
        table["activity"] = activity
        table["h3k27ac_level"] = activity + causal.leak * state + causal.h3k27ac_noise * noise[1]
        table["dnase_level"] = state + 0.3 * noise[2]
        table["causal_effect"] = effect
        table["confounding"] = strength
        table["noise"] = causal.label_noise * noise[3]
        table["label"] = causal.intercept + effect + strength * state + table["noise"]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
