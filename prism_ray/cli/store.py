"""`prism-ray store`: what a feature store holds, whether its bytes are unchanged, whether its data make sense."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.options import local_path, store_place
from prism_ray.errors import Fault, StoreError
from prism_ray.sizes import size_text

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
    report = actions.add_parser("report", help="one page with plots and warnings: do tracks, labels and genome agree?")
    report.add_argument("--out", type=Path, metavar="FILE", help="page to write (default: quality.html in the store)")
    report.set_defaults(command=run_report)
    adding = actions.add_parser(
        "add-signal",
        help="add a track of a catalog to a store; what is there is not touched",
        description="Add a track to every cell type that the catalog gives it for and the store has without it.",
    )
    adding.set_defaults(command=run_add_signal)
    for action in (info, verify, report):
        action.add_argument(
            "store", type=store_place, metavar="STORE", help="the store: a folder, s3://... or gs://..."
        )
    adding.add_argument("store", type=local_path, metavar="STORE", help="folder of the store")
    adding.add_argument("catalog", type=Path, metavar="CATALOG", help="catalog that names the track")
    adding.add_argument("signal", metavar="SIGNAL", help="name of the track in the catalog")
    adding.add_argument("--workers", type=int, help="partitions written at a time (default: as many as there are CPUs)")


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
    files = store.description.all_files
    n_bytes = sum(entry.bytes for entry in files)
    print(f"{args.store}: {len(files)} files, {size_text(n_bytes)}: all as they were written")
    return 0


def run_report(args: argparse.Namespace) -> int:
    """Write the quality report of a store and say what it warns of; returns the exit code."""
    import prism_ray.store
    from prism_ray.report.store_quality import QUALITY_NAME, write_store_report

    page = args.out or args.store / QUALITY_NAME
    if not isinstance(page, Path):
        fault = Fault("--out", "is not given, and the page cannot be written into a bucket", "give a file")
        raise StoreError(str(fault), [fault])
    print(f"quality report: {write_store_report(prism_ray.store.open(args.store), page)}")
    return 0


def run_add_signal(args: argparse.Namespace) -> int:
    """Add a track to a store, and make its quality report anew; returns the exit code."""
    import prism_ray.store
    from prism_ray.distributed.add_signal import add_signal
    from prism_ray.report.store_quality import QUALITY_NAME, write_store_report

    def say(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    for cell_type, found in add_signal(args.store, args.catalog, args.signal, args.workers, say).items():
        r = "constant" if found.correlation is None else f"{found.correlation:.3f}"
        missing = f"{found.missing_fraction or 0:.2%} of its bases missing"
        print(f"{cell_type}: {args.signal} added; {missing}, r with the label at the TSS {r}")
    store = prism_ray.store.open(args.store)
    print(
        f"store: {args.store}, digest now {store.digest[:12]}: earlier trials belong to the store without {args.signal}"
    )
    print(f"quality report: {write_store_report(store, args.store / QUALITY_NAME)}")
    return 0


def _overview(store: Store) -> list[str]:
    description = store.description
    n_bytes = sum(entry.bytes for entry in description.all_files)
    dna = description.sequence
    folds = ", ".join(store.folds.names)
    turned = "in the direction of each gene" if description.strand_aware else "on the forward strand"
    masked = description.blacklist
    return [
        f"{store.path}: {description.name}, assembly {description.assembly}, schema {description.schema_version}",
        f"digest   {store.digest}",
        f"window   {store.window_bp:,} bp, {turned}, rings {' '.join(str(bound) for bound in description.ring_bounds)}",
        f"files    {len(description.all_files)}, {size_text(n_bytes)}",
        f"builder  prism-ray {description.builder_version}",
        f"DNA      {'none' if dna is None else f'{dna.file} (md5 {dna.md5})'}",
        f"masked   {'nothing' if masked is None else f'{masked.file} (md5 {masked.md5})'}",
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
            kept += "".join(f", {name} {value}" for name, value in source.settings.items() if value is not None)
            lines.append(f"  {signal.name:<16} {kept}; {source.file} (md5 {source.md5}{accession})")
    labels = store.genes(name)["label"].to_numpy()
    lines.append(f"  label: {cell.label.source}, transform {cell.label.transform}")
    counts, edges = np.histogram(labels, bins=_BINS)
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        bar = "#" * round(_BAR_WIDTH * count / counts.max())
        lines.append(f"    {low:8.3f} to {high:8.3f} {count:7,d} {bar}".rstrip())
    return lines
