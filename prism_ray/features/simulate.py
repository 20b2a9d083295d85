"""A small genome whose truth is known, in the formats of real data.

`simulate` writes FASTA, bigWig, mcool, tables and the catalog that names them, and beside them the
truth: hidden states and causal effects. The causal model is stated in `simulate_model.EQUATIONS`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from prism_ray.documents import faults_of
from prism_ray.errors import ConfigError, FaultList, InputError
from prism_ray.features.simulate_files import (
    STEP_BP,
    covered,
    peaks,
    simulate_contacts,
    write_bigwig,
    write_fasta,
    write_mcool,
)
from prism_ray.features.simulate_model import (
    CELL_TYPES,
    DNASE_GAIN,
    EQUATIONS,
    H3K27AC_GAIN,
    MOTIFS,
    STATE_BIN_BP,
    TEST_CHROM,
    Genome,
    SimulationConfig,
    simulate_expression,
    simulate_genome,
    simulate_states,
)

__all__ = ["SimulationConfig", "simulate", "simulation_config"]

ASSEMBLY = "sim1"
WINDOW_BP = 8000
SCALARS = (
    "utr5_len", "cds_len", "intron_len", "utr3_len", "utr5_gc", "cds_gc", "utr3_gc", "orf_exon_density",
    "promoter_activity",
)  # fmt: skip

_CATALOG = """\
# A simulated genome; README.md beside this file says how, truth.tsv what is hidden in it.
schema: 1
name: simulated
assembly: {assembly}
sequence: {{fasta: genome.fa}}
genes: {{table: genes.tsv}}
folds: {{table: folds.tsv}}
window_bp: {window_bp}
cell_types:
"""
_CELL_TYPE = """\
  {cell}:
    label: {{table: labels.tsv, column: {cell}}}
    scalars: {{table: scalars_{cell}.tsv, columns: [{scalars}]}}
    signals:
      h3k27ac: {{file: {stem}_h3k27ac.bw, kind: bigwig, role: foreground, transform: log1p}}
      dnase: {{file: {stem}_dnase.bw, kind: bigwig, role: background, transform: log1p}}
      hic: {{file: {stem}_hic.mcool, kind: cooler, role: background, resolution: 1000, transform: log10p1}}
"""
_README = """\
# A simulated genome

Made by `prism-ray simulate`; every number in it comes from the seed in `truth.json`.

{equations}
`truth.tsv` holds every symbol for each gene and cell type, `truth.json` the sizes of the causes.
"""


def simulation_config(**settings: Any) -> SimulationConfig:
    """Settings of a simulation.

    Raises:
        ConfigError: with every setting that cannot be used.
    """
    faults = FaultList()
    try:
        return SimulationConfig(**settings)
    except ValidationError as problem:
        faults.extend(faults_of(problem, SimulationConfig, lambda place: ".".join(("simulate", *map(str, place)))))
    faults.raise_if_any(ConfigError)
    raise AssertionError("a validation error without faults")


def simulate(out: Path, config: SimulationConfig) -> None:
    """Write a simulated genome; the same config gives the same bytes.

    Args:
        out: folder to make; everything is written beside it first, then renamed.
        config: what is simulated.

    Raises:
        InputError: `out` exists, or its parent cannot be written.
    """
    if out.exists() or out.is_symlink():
        _refuse(out, "exists", "give the name of a folder that does not exist, or remove it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        _refuse(out, f"cannot be made ({error.strerror})", "give a folder that can be written")
    try:
        _write_all(staging, config)
        staging.chmod(0o755)
        staging.rename(out)
    except BaseException:
        shutil.rmtree(staging)
        raise


def _refuse(out: Path, problem: str, fix: str) -> None:
    faults = FaultList()
    faults.add(str(out), problem, fix)
    faults.raise_if_any(InputError)


def _write_all(folder: Path, config: SimulationConfig) -> None:
    # One stream of chance a part: a setting of one part leaves the others as they are.
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(config.seed).spawn(6)]
    genome = simulate_genome(config, streams[0])
    states = simulate_states(genome.chrom_sizes, config.causal, streams[1])
    truth = simulate_expression(config, genome, states, streams[2])
    write_fasta(folder / "genome.fa", genome.sequence)
    _write_table(genome.genes, folder / "genes.tsv")
    _write_table(_labels(truth), folder / "labels.tsv")
    _write_table(_folds(list(genome.chrom_sizes)), folder / "folds.tsv")
    shared = _gene_scalars(genome.genes["gene_id"], streams[3])
    for cell in CELL_TYPES:
        levels = truth[truth["cell_type"] == cell].reset_index(drop=True)
        activity = _write_tracks(folder, cell, genome, levels, states[cell], streams[4])
        _write_table(shared.assign(promoter_activity=activity), folder / f"scalars_{cell}.tsv")
        bins, pixels = simulate_contacts(states[cell], streams[5])
        write_mcool(folder / f"{cell.lower()}_hic.mcool", genome.chrom_sizes, bins, pixels, ASSEMBLY)
    _write_table(truth, folder / "truth.tsv")
    _write_texts(folder, config)


def _write_tracks(
    folder: Path,
    cell: str,
    genome: Genome,
    levels: pd.DataFrame,
    states: dict[str, NDArray[np.float64]],
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Write both bigWigs of a cell type; returns the promoter activity of each gene, (N,)."""
    tracks: dict[str, dict[str, NDArray[np.float64]]] = {"h3k27ac": {}, "dnase": {}}
    masks = {}
    activity = np.zeros(len(levels))
    for chrom, size in genome.chrom_sizes.items():
        here = np.flatnonzero(levels["chrom"] == chrom)
        tss = levels["tss"].to_numpy()[here]
        masks[chrom] = covered(size, tss)
        marked = 0.3 + peaks(size, tss, 4.0 * np.exp(H3K27AC_GAIN * levels["h3k27ac_level"].to_numpy()[here]), 400.0)
        along = np.repeat(states[chrom], STATE_BIN_BP // STEP_BP)[: size // STEP_BP]
        own = levels["dnase_level"].to_numpy()[here] - levels["state"].to_numpy()[here]
        opened = (0.5 + peaks(size, tss, 2.0 * np.exp(DNASE_GAIN * own), 500.0)) * np.exp(DNASE_GAIN * along)
        for name, values in (("h3k27ac", marked), ("dnase", opened)):
            noise = random.gamma(8.0, 1.0 / 8.0, size=len(values))
            tracks[name][chrom] = values * noise
        for gene, position in zip(here, tss, strict=True):
            near = slice(max(position - 500, 0) // STEP_BP, (position + 500) // STEP_BP)
            activity[gene] = np.sqrt(tracks["h3k27ac"][chrom][near].mean() * tracks["dnase"][chrom][near].mean())
    for name, values_by_chrom in tracks.items():
        write_bigwig(folder / f"{cell.lower()}_{name}.bw", genome.chrom_sizes, values_by_chrom, masks)
    return activity


def _labels(truth: pd.DataFrame) -> pd.DataFrame:
    parts = {cell: truth.loc[truth["cell_type"] == cell, "label"].to_numpy() for cell in CELL_TYPES}
    ids = truth.loc[truth["cell_type"] == CELL_TYPES[0], "gene_id"].to_numpy()
    return pd.DataFrame({"gene_id": ids, **parts})


def _folds(chroms: list[str]) -> pd.DataFrame:
    """Fold k validates on chromosome k and tests on the next."""
    table: dict[str, list[str]] = {"chrom": chroms}
    for number, chrom in enumerate(chroms):
        test = chroms[(number + 1) % len(chroms)]
        roles = {chrom: "valid", test: "test"}
        table[f"fold_{number + 1}"] = [roles.get(name, "train") for name in chroms]
    return pd.DataFrame(table)


def _gene_scalars(gene_id: pd.Series[str], random: np.random.Generator) -> pd.DataFrame:
    """Scalars that say nothing about expression: z-scored lengths, GC contents, exon density."""
    table = pd.DataFrame({"gene_id": gene_id})
    for name in SCALARS[:-1]:
        if name.endswith("_gc"):
            table[name] = random.uniform(0.3, 0.7, len(gene_id))
        elif name.endswith("_len"):
            table[name] = random.standard_normal(len(gene_id))
        else:
            table[name] = random.gamma(2.0, 1.5, len(gene_id))
    return table


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False, float_format="%.6f", lineterminator="\n")


def _write_texts(folder: Path, config: SimulationConfig) -> None:
    catalog = _CATALOG.format(assembly=ASSEMBLY, window_bp=WINDOW_BP)
    for cell in CELL_TYPES:
        catalog += _CELL_TYPE.format(cell=cell, stem=cell.lower(), scalars=", ".join(SCALARS))
    (folder / "catalog.yaml").write_text(catalog, encoding="utf-8")
    (folder / "README.md").write_text(_README.format(equations=EQUATIONS), encoding="utf-8")
    parameters = {
        **config.model_dump(mode="json"),
        "test_confounding": config.confounding_on_test,
        "test_chrom": TEST_CHROM,
        "motifs": list(MOTIFS),
        "equations": EQUATIONS.splitlines(),
    }
    (folder / "truth.json").write_text(json.dumps(parameters, indent=2) + "\n", encoding="utf-8")
