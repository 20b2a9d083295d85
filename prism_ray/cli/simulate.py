"""`prism-ray simulate`: a small genome whose truth is known."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `prism-ray`."""
    parser = subparsers.add_parser(
        "simulate",
        help="write a small simulated genome in the formats of real data",
        description="Write a genome, tracks, contact maps, tables and their catalog, with the truth beside them.",
    )
    parser.add_argument("out", type=Path, help="folder to make; refused where it exists")
    parser.add_argument("--genes", type=int, default=400, help="number of genes (default 400)")
    parser.add_argument("--chromosomes", type=int, default=8, help="number of chromosomes, 6 or more (default 8)")
    parser.add_argument("--seed", type=int, default=7, help="seed; the same seed gives the same bytes (default 7)")
    parser.add_argument(
        "--confounding", type=float, default=1.0, help="expression a unit of the hidden background state (default 1.0)"
    )
    parser.add_argument(
        "--test-confounding", type=float, help="the same on fold_1's test chromosome (default: as --confounding)"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Write the genome; returns the exit code."""
    from prism_ray.features.simulate import simulate, simulation_config

    config = simulation_config(
        genes=args.genes,
        chromosomes=args.chromosomes,
        seed=args.seed,
        confounding=args.confounding,
        test_confounding=args.test_confounding,
    )
    simulate(args.out, config)
    print(f"{args.out}: {config.genes} genes on {config.chromosomes} chromosomes, two cell types; README.md says how")
    print(f"next: prism-ray build {args.out / 'catalog.yaml'} --out STORE")
    return 0
