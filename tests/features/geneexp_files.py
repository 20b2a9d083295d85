"""A miniature of the published benchmark's folder: 20 genes on 4 chromosomes, two cell types, 12 folds."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyBigWig

SIZES = {"chr1": 30_000, "chr2": 24_000, "chr10": 20_000, "chrX": 16_000}
CELLS = {"K562": ("ENCFF465GBD", "ENCFF414OGC"), "GM12878": ("ENCFF798KYP", "ENCFF960FMM")}
SCALARS = [
    "UTR5LEN_log10zscore", "CDSLEN_log10zscore", "INTRONLEN_log10zscore", "UTR3LEN_log10zscore", "UTR5GC", "CDSGC",
    "UTR3GC", "ORFEXONDENSITY",
]  # fmt: skip
HIC_BP = 8000
N_GENES = 20
EXPRESSION = "promo_enhan_inter/GM12878_K562_18377_gene_expr_fromXpresso.csv"
SPLIT = "promo_enhan_inter/leave_chrom_out_crossvalidation_split_18377genes.csv"
GENE_LIST = "promo_enhan_inter/{cell}_DNase_hic_1MB_ABC_nominated/DNase_Neighborhoods/GeneList.txt"


def make_benchmark(folder: Path, seed: int = 0) -> pd.DataFrame:
    """Write the folder; returns the genes: gene_id, symbol, chrom, tss."""
    random = np.random.default_rng(seed)
    genes = _genes(random)
    (folder / "hg38").mkdir(parents=True)
    with (folder / "hg38" / "hg38.ml.fa").open("w") as stream:
        for chrom, size in SIZES.items():
            letters = "".join(random.choice(list("ACGTNacgt"), size))
            stream.write(f">{chrom}\n" + "".join(f"{letters[at : at + 60]}\n" for at in range(0, size, 60)))
    (folder / "chr_length.json").write_text(json.dumps(SIZES))
    _write_tables(folder, genes, random)
    for cell, accessions in CELLS.items():
        for assay, accession in zip(("H3K27ac", "DNase-seq"), accessions, strict=True):
            _write_bigwig(folder / "promo_enhan_inter" / assay / cell / f"{accession}.bigWig", random)
        _write_gene_list(folder / GENE_LIST.format(cell=cell), genes, random)
        _write_hic(folder / "promo_enhan_inter" / "HiC" / cell, genes, random)
    return genes


def _genes(random: np.random.Generator) -> pd.DataFrame:
    chroms = [list(SIZES)[number % len(SIZES)] for number in range(N_GENES)]
    # Some windows reach beyond an end; two genes share a TSS.
    tss = [int(random.integers(0, SIZES[chrom])) for chrom in chroms]
    tss[0], tss[4] = 150, SIZES["chr1"] - 100
    tss[12] = tss[8]
    ids = [f"ENSG{number:011d}" for number in random.permutation(N_GENES)]
    return pd.DataFrame({"gene_id": ids, "symbol": [f"GENE{n}" for n in range(N_GENES)], "chrom": chroms, "tss": tss})


def _write_tables(folder: Path, genes: pd.DataFrame, random: np.random.Generator) -> None:
    (folder / "promo_enhan_inter").mkdir()
    expression = pd.DataFrame({"ENSID": genes["gene_id"]})
    for cell in CELLS:
        expression[f"{cell}_CAGE_128*3_sum"] = random.gamma(1, 50, N_GENES)
        expression[f"Actual_{cell}"] = random.normal(0, 1, N_GENES)
    for name in SCALARS:
        expression[name] = random.normal(0, 1, N_GENES)
    expression.to_csv(folder / EXPRESSION, index=False)
    split = pd.DataFrame({"ENSID": genes["gene_id"], "Gene name": genes["symbol"]})
    chroms = list(SIZES)
    for fold in range(1, 13):
        roles = {chroms[fold % 4]: "valid", chroms[(fold + 1) % 4]: "test"}
        split[f"fold_{fold}"] = [roles.get(chrom, "train") for chrom in genes["chrom"]]
    split.sample(frac=1, random_state=1).to_csv(folder / SPLIT, index=False)


def _write_gene_list(path: Path, genes: pd.DataFrame, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True)
    table = pd.DataFrame({"symbol": genes["symbol"], "chr": genes["chrom"], "tss": genes["tss"]})
    table["H3K27ac.RPM.TSS1Kb"] = random.gamma(1, 3, N_GENES)
    table["DHS.RPM.TSS1Kb"] = random.gamma(1, 3, N_GENES)
    other = table.iloc[:1].assign(symbol="ANOTHER")
    pd.concat([other, table.iloc[::-1]]).to_csv(path, sep="\t", index=False)


def _write_bigwig(path: Path, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True)
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr0", 0), *SIZES.items()])
    for chrom in SIZES:
        starts = np.arange(0, SIZES[chrom] - 10, 15)
        values = random.gamma(1, 2, len(starts))
        values[::7] = np.nan
        file.addEntries([chrom] * len(starts), starts.tolist(), ends=(starts + 10).tolist(), values=values.tolist())
    file.close()


def _write_hic(folder: Path, genes: pd.DataFrame, random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for chrom, part in genes.groupby("chrom"):
        with h5py.File(folder / f"hic_feat_{chrom}.h5", "w") as file:
            for tss in part["tss"].unique():
                file[f"{chrom}_{tss}"] = random.gamma(1, 0.1, HIC_BP).astype(np.float32)
