"""Tables of the published benchmark: genes, labels, scalars, folds and positions, as `benchmark` describes them.

Genes are rows in the order of the expression table; their index is ENSID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from prism_ray.errors import FaultList, did_you_mean
from prism_ray.features.genes import natural_order
from prism_ray.features.tables import counted_genes, numbers, read_table

INTERACTIONS = Path("promo_enhan_inter")
EXPRESSION = INTERACTIONS / "GM12878_K562_18377_gene_expr_fromXpresso.csv"
SPLIT = INTERACTIONS / "leave_chrom_out_crossvalidation_split_18377genes.csv"
SEQUENCE_SCALARS = (
    "UTR5LEN_log10zscore", "CDSLEN_log10zscore", "INTRONLEN_log10zscore", "UTR3LEN_log10zscore", "UTR5GC", "CDSGC",
    "UTR3GC", "ORFEXONDENSITY",
)  # fmt: skip
ACTIVITY_PARTS = ("H3K27ac.RPM.TSS1Kb", "DHS.RPM.TSS1Kb")
ROLES = ("train", "valid", "test")

_FOLD = re.compile(r"^fold_\d+$")


def read_expression(folder: Path, columns: Sequence[str], faults: FaultList) -> pd.DataFrame | None:
    """Labels (`columns`) and eight scalars of each gene as text, by ENSID; None where there are faults."""
    path = folder / EXPRESSION
    table = read_table(path, ("ENSID", *columns, *SEQUENCE_SCALARS), str(EXPRESSION), faults)
    if table is None:
        return None
    before = len(faults)
    ids = table["ENSID"].str.strip()
    twice = ids.duplicated(keep=False).to_numpy(dtype=np.bool_)
    if twice.any():
        faults.add(str(path), counted_genes(twice, "ENSID is not unique", ids), "keep one row a gene")
    for column in (*columns, *SEQUENCE_SCALARS):
        values = numbers(table[column], column, str(path), faults)
        missing = np.isnan(values)
        if missing.any() and len(faults) == before:
            faults.add(str(path), counted_genes(missing, f"there is no {column}", ids), "every gene needs one")
    if len(faults) > before:
        return None
    return table.set_index(pd.Index(ids, name="gene_id")).drop(columns="ENSID")


def read_split(folder: Path, faults: FaultList) -> pd.DataFrame | None:
    """Symbol and role in each fold as text, by ENSID; columns `Gene name`, fold_1, ...; None where there are faults."""
    path = folder / SPLIT
    table = read_table(path, None, str(SPLIT), faults)
    if table is None:
        return None
    lost = [name for name in ("ENSID", "Gene name") if name not in table]
    for name in lost:
        faults.add(str(path), f"has no column {name!r}", did_you_mean(name, map(str, table.columns)))
    folds = [str(name) for name in table.columns if _FOLD.match(str(name))]
    if not folds:
        faults.add(str(path), "has no column named fold_1, fold_2, ...", "give the table of the data set")
    if lost or not folds:
        return None
    ids = table["ENSID"].str.strip()
    twice = ids.duplicated(keep=False).to_numpy(dtype=np.bool_)
    if twice.any():
        faults.add(str(path), counted_genes(twice, "ENSID is not unique", ids), "keep one row a gene")
        return None
    stripped = {name: table[name].str.strip().to_numpy() for name in ("Gene name", *folds)}
    return pd.DataFrame(stripped, index=pd.Index(ids))


def read_symbols(folder: Path, genes: pd.DataFrame, split: pd.DataFrame, faults: FaultList) -> pd.Series[str] | None:
    """Symbol of each gene, by ENSID in the order of `genes`; None where there are faults."""
    ids = pd.Series(genes.index)
    lost = ~ids.isin(split.index).to_numpy(dtype=np.bool_)
    if lost.any():
        faults.add(
            str(folder / SPLIT), counted_genes(lost, "there is no row for the gene", ids), "add them, or leave them out"
        )
        return None
    symbols = split["Gene name"].reindex(genes.index)
    empty = symbols.eq("").to_numpy(dtype=np.bool_)
    if empty.any():
        faults.add(str(folder / SPLIT), counted_genes(empty, "there is no Gene name", ids), "add them")
        return None
    return symbols


def find_gene_list(folder: Path, cell: str, faults: FaultList) -> Path | None:
    """The only GeneList.txt below a folder that is named after the cell type; None where there are faults."""
    home = folder / INTERACTIONS
    named = re.compile(rf"^{re.escape(cell)}(_|$)")
    found = sorted(
        path
        for path in home.rglob("GeneList.txt")
        if any(named.match(part) for part in path.relative_to(home).parts[:-1])
    )
    if len(found) != 1:
        listed = f": {', '.join(str(path.relative_to(home)) for path in found)}" if found else ""
        faults.add(
            str(home), f"holds {len(found)} GeneList.txt of {cell}{listed}", f"keep one, in a folder named {cell}_..."
        )
        return None
    return found[0]


def read_gene_list(path: Path, symbols: pd.Series[str], faults: FaultList) -> pd.DataFrame | None:
    """Columns chrom, tss and promoter_activity of each gene, in the order of `symbols`; None where there are faults."""
    table = read_table(path, ("symbol", "chr", "tss", *ACTIVITY_PARTS), str(path), faults)
    if table is None:
        return None
    before = len(faults)
    rows = table.set_index(pd.Index(table["symbol"].str.strip()))
    lost = ~symbols.isin(rows.index).to_numpy(dtype=np.bool_)
    if lost.any():
        faults.add(str(path), counted_genes(lost, "there is no row for the symbol", symbols), "add them")
    wanted = symbols.isin(rows.index[rows.index.duplicated()]).to_numpy(dtype=np.bool_)
    if wanted.any():
        faults.add(str(path), counted_genes(wanted, "the symbol has more than one row", symbols), "keep one row each")
    if len(faults) > before:
        return None
    rows = rows.loc[symbols.to_list()].reset_index(drop=True)
    shown = symbols.reset_index(drop=True)
    parsed = {name: numbers(rows[name], name, str(path), faults) for name in ("tss", *ACTIVITY_PARTS)}
    for name, values in parsed.items():
        bad = np.isnan(values) | (values < 0)
        if name == "tss":
            bad |= values != np.floor(values)
        if bad.any() and len(faults) == before:
            faults.add(str(path), counted_genes(bad, f"{name} is missing or unusable", shown), "every gene needs one")
    if len(faults) > before:
        return None
    activity = np.sqrt(parsed[ACTIVITY_PARTS[0]] * parsed[ACTIVITY_PARTS[1]])
    places = {"chrom": rows["chr"].str.strip().to_numpy(), "tss": parsed["tss"], "promoter_activity": activity}
    return pd.DataFrame(places, index=symbols.index)


def agreed_places(places: Mapping[str, pd.DataFrame], faults: FaultList) -> pd.DataFrame:
    """Columns chrom and tss (int64) of each gene, which the cell types have to agree on.

    Args:
        places: what `read_gene_list` gives, by cell type.
        faults: takes genes on which they do not.
    """
    first_name, *others = places
    first = places[first_name]
    for name in others:
        here = places[name]
        differs = ((here["chrom"] != first["chrom"]) | (here["tss"] != first["tss"])).to_numpy(dtype=np.bool_)
        if differs.any():
            faults.add(
                f"GeneList.txt of {name}",
                counted_genes(differs, f"the TSS is not where {first_name} has it", pd.Series(first.index)),
                "use files of one annotation",
            )
    return first[["chrom", "tss"]].astype({"tss": np.int64})


def chromosome_folds(folder: Path, split: pd.DataFrame, chrom: pd.Series[str], faults: FaultList) -> pd.DataFrame:
    """Role of each chromosome in each fold, from the roles of its genes."""
    path = folder / SPLIT
    folds = [name for name in split.columns if name != "Gene name"]
    table = pd.DataFrame(index=pd.Index(natural_order(chrom)), columns=folds, dtype=object)
    for fold in folds:
        unknown = ~split[fold].isin(ROLES).to_numpy(dtype=np.bool_)
        if unknown.any():
            problem = counted_genes(unknown, f"{fold} is not one of {', '.join(ROLES)}", pd.Series(split.index))
            faults.add(str(path), problem, "mend the table")
            continue
        roles = split[fold].groupby(chrom.to_numpy()).unique()
        for name, found in roles.items():
            if len(found) > 1:
                said = " and ".join(sorted(found))
                faults.add(f"{path}, column {fold}", f"genes of {name} are of {said}", "give a chromosome one role")
        table[fold] = roles.map(lambda found: found[0]).reindex(table.index)
    return table
