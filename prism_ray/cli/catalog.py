"""`prism-ray catalog`: catalogs of data sets whose layout is known."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `catalog` with its own subcommands to the command's parser."""
    parser = subparsers.add_parser("catalog", help="write the catalog of a data set whose layout is known")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    geneexp = actions.add_parser(
        "from-geneexp",
        help="the published benchmark, huggingface data set xingyusu/GeneExp",
        description="Write a catalog of the published benchmark with the tables it names, and check all of its files. "
        "Signals are h3k27ac, dnase and hic; scalars are the published nine.",
    )
    geneexp.add_argument("folder", type=Path, metavar="DIR", help="folder of the data set")
    geneexp.add_argument(
        "--cell-type", action="append", required=True, metavar="NAME", help="cell type, K562 for example; repeat it"
    )
    geneexp.add_argument(
        "--label",
        choices=("cage", "rna"),
        default="cage",
        help="what is predicted: cage, log10(1 + CAGE at the TSS), or rna, the column Actual_<cell> of RNA-seq levels "
        "as it is, logarithms already (default cage)",
    )
    geneexp.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="catalog to write; its tables are written beside it"
    )
    geneexp.set_defaults(command=run_from_geneexp)


def run_from_geneexp(args: argparse.Namespace) -> int:
    """Write the catalog of the published benchmark; returns the exit code."""
    from prism_ray.features.benchmark import write_benchmark_catalog

    found = write_benchmark_catalog(args.folder, args.cell_type, args.out, args.label)
    print(
        f"{found.catalog}: {found.n_genes:,} genes on {len(found.chroms)} chromosomes, {len(found.folds)} folds, "
        f"cell types {', '.join(found.cell_types)}"
    )
    print(f"next: prism-ray build {found.catalog} --out STORE --window-bp 200000")
    return 0
