"""`prism-ray store`: what a feature store holds, and whether its bytes are still those that were written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prism_ray.store import Store

_BINS = 10
_BAR_WIDTH = 40


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `store` with its own subcommands to the command's parser."""
    parser = subparsers.add_parser("store", help="look into a feature store, or check it")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = actions.add_parser("info", help="what is in it, from where, sizes, distribution of the label")
    info.set_defaults(command=run_info)
    verify = actions.add_parser("verify", help="hash every file: finds any byte that was changed")
    verify.set_defaults(command=run_verify)
    for action in (info, verify):
        action.add_argument("store", type=Path, metavar="STORE", help="folder of the store")


def run_info(args: argparse.Namespace) -> int:
    """Print what a store holds; returns the exit code."""
    import prism_ray.store

    store = prism_ray.store.open(args.store)
    for line in (*_overview(store), *(line for name in store.cell_types for line in _cell_type(store, name))):
        print(line)
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Hash every file of a store; returns the exit code."""
    import prism_ray.store

    store = prism_ray.store.open(args.store)
    store.verify()
    n_bytes = sum(entry.bytes for entry in store.description.files)
    print(f"{args.store}: {len(store.description.files)} files, {n_bytes / 1e6:,.1f} MB: all as they were written")
    return 0


def _overview(store: Store) -> list[str]:
    description = store.description
    n_bytes = sum(entry.bytes for entry in description.files)
    dna = description.sequence
    folds = ", ".join(store.folds.names)
    return [
        f"{store.path}: {description.name}, assembly {description.assembly}, schema {description.schema_version}",
        f"digest   {store.digest}",
        f"window   {store.window_bp:,} bp, rings {' '.join(str(bound) for bound in description.ring_bounds)}",
        f"files    {len(description.files)}, {n_bytes / 1e6:,.1f} MB",
        f"builder  prism-ray {description.builder_version}",
        f"DNA      {'none' if dna is None else f'{dna.file} (md5 {dna.md5})'}",
        f"scalars  {', '.join(store.scalar_names) or 'none'}",
        f"folds    {folds}",
    ]


def _cell_type(store: Store, name: str) -> list[str]:
    import numpy as np

    description = store.description
    cell = description.cell_types[name]
    files = description.files_of(name)
    lines = ["", f"{name}: {cell.n_genes:,} genes on {len(files)} chromosomes"]
    for signal in description.signals:
        source = cell.sources.get(signal.name)
        if source is not None:
            accession = f", {source.accession}" if source.accession else ""
            kept = f"{signal.role}, transform {signal.transform}, {signal.dtype}"
            lines.append(f"  {signal.name:<16} {kept}; {source.file} (md5 {source.md5}{accession})")
    labels = store.genes(name)["label"].to_numpy()
    lines.append(f"  label: {cell.label.source}, transform {cell.label.transform}")
    counts, edges = np.histogram(labels, bins=_BINS)
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * round(_BAR_WIDTH * count / counts.max())
        lines.append(f"    {low:8.3f} to {high:8.3f} {count:7,d} {bar}".rstrip())
    return lines
