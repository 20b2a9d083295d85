"""The folds that a catalog states, checked against the genome and the genes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prism_ray.errors import FaultList, did_you_mean
from prism_ray.features.genes import natural_order
from prism_ray.features.naming import naming_mismatch
from prism_ray.features.source_parts import FoldTable
from prism_ray.features.sources import Catalog
from prism_ray.features.tables import read_table
from prism_ray.splits import Folds, Role, folds_from_parts

_ROLE_WORDS: dict[str, Role] = {"train": "train", "valid": "validation", "validation": "validation", "test": "test"}


def read_folds(
    catalog: Catalog, chroms: Collection[str], gene_chroms: Iterable[str], where: str, faults: FaultList
) -> Folds | None:
    """Folds of a catalog; None where there are faults.

    Args:
        catalog: names the folds, or their table.
        chroms: chromosomes of the genome.
        gene_chroms: chromosomes with genes: each needs a role in each fold.
        where: place of the folds in the catalog.
        faults: takes what is wrong with them.
    """
    before = len(faults)
    if isinstance(catalog.folds, FoldTable):
        folds = _read_fold_table(catalog, catalog.folds, where, faults)
    else:
        parts = {name: (roles.validation, roles.test) for name, roles in catalog.folds.items()}
        folds = folds_from_parts(parts, natural_order(gene_chroms), where, faults)
    if folds is None:
        return None
    if not folds.names:
        faults.add(where, "holds no fold", "name at least one")
    _check_chroms(folds, chroms, natural_order(gene_chroms), where, faults)
    return None if len(faults) > before else folds


def _read_fold_table(catalog: Catalog, source: FoldTable, where: str, faults: FaultList) -> Folds | None:
    columns = None if source.names is None else (source.chrom, *source.names)
    table = read_table(catalog.resolve(source.table), columns, where, faults)
    if table is None:
        return None
    place = f"{where}: {source.table}"
    if source.chrom not in table:
        faults.add(place, f"has no column {source.chrom!r}", did_you_mean(source.chrom, map(str, table.columns)))
        return None
    before = len(faults)
    chroms = table[source.chrom].str.strip()
    for chrom in chroms[chroms.duplicated()].unique():
        faults.add(place, f"{chrom} has more than one row, so it could have two roles", "keep one row a chromosome")
    roles: dict[str, dict[str, Role]] = {}
    for fold in (str(name) for name in table.columns if name != source.chrom):
        roles[fold] = {}
        for chrom, word in zip(chroms, table[fold].str.strip(), strict=True):
            if word not in _ROLE_WORDS:
                faults.add(
                    f"{place}, column {fold}",
                    f"{word!r} ({chrom}) is not a role",
                    f"{did_you_mean(word, _ROLE_WORDS)}; list the columns that are folds in folds.names",
                )
                break
            roles[fold][chrom] = _ROLE_WORDS[word]
    return None if len(faults) > before else Folds(roles)


def _check_chroms(folds: Folds, chroms: Collection[str], gene_chroms: list[str], where: str, faults: FaultList) -> None:
    named = natural_order(chrom for fold in folds.names for chrom in folds.roles(fold))
    if chroms:
        unknown = [chrom for chrom in named if chrom not in chroms]
        if unknown and (mismatch := naming_mismatch(unknown, chroms)):
            faults.add(
                where, f"chromosomes are named {mismatch[0]} here and {mismatch[1]} in the genome", "name them alike"
            )
        elif unknown:
            faults.add(
                where, f"{', '.join(unknown)} is not a chromosome of these data", did_you_mean(unknown[0], chroms)
            )
    for fold in folds.names:
        lost = [chrom for chrom in gene_chroms if chrom not in folds.roles(fold)]
        if lost:
            faults.add(
                f"{where}.{fold}",
                f"has no role for {', '.join(lost)}, where there are genes",
                "give each of them a role",
            )
