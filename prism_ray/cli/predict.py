"""`prism-ray predict`: a trained model on the genes of a store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.options import local_path, store_place

if TYPE_CHECKING:
    from prism_ray.distributed.predict import PredictionProgress


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `predict` to the command's parser."""
    parser = subparsers.add_parser(
        "predict",
        help="predict genes with a trained model",
        description="Write a row a gene: label, prediction of the plain and of the adjusted path, and the weights of "
        "the background states where asked. The same command again goes on where an interrupted one stopped.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model folder, folder of a run, runs:/RUN_ID/model, models:/NAME@ALIAS or models:/NAME/VERSION",
    )
    parser.add_argument("--store", type=store_place, required=True, help="feature store with the genes")
    parser.add_argument(
        "--out", type=local_path, required=True, metavar="FILE.parquet", help="file to write; refused if it exists"
    )
    parser.add_argument("--cell-type", help="whose genes (default: the one that the model was trained on)")
    parser.add_argument("--genes", type=Path, metavar="FILE", help="text file with one gene id a line (default: all)")
    parser.add_argument("--part", choices=("train", "validation", "test"), help="only the genes of a part of a fold")
    parser.add_argument("--fold", help="fold of the part (default: the one that the model was trained on)")
    parser.add_argument("--window-bp", type=int, help="length of the window (default: the model's training window)")
    parser.add_argument("--states", action="store_true", help="write the weights of the background states, too")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU where one is")
    parser.add_argument("--workers", type=int, help="shards predicted at a time (default: one a CPU, or a GPU)")
    parser.add_argument("--address", help="Ray cluster to join (default: RAY_ADDRESS, else a local one)")
    parser.add_argument("--tracking-uri", help="MLflow store of a URI (default: MLFLOW_TRACKING_URI)")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Predict, and print how well the predictions fit the labels."""
    from prism_ray.distributed.predict import Selection, predict
    from prism_ray.distributed.predict_plan import read_gene_ids

    selection = Selection(
        cell_type=args.cell_type,
        genes=read_gene_ids(args.genes) if args.genes is not None else None,
        part=args.part,
        fold=args.fold,
        window_bp=args.window_bp,
    )
    made = predict(
        args.model,
        args.store,
        args.out,
        selection=selection,
        states=args.states,
        device=args.device,
        n_workers=args.workers,
        address=args.address,
        tracking_uri=args.tracking_uri,
        on_progress=_tell,
    )
    print(f"{made.cell_type}: {made.n_genes:,} genes, window {made.window_bp:,} bp")
    for path, metrics in made.metrics.items():
        print(f"{path:10} " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    print(f"predictions {args.out}")
    return 0


def _tell(progress: PredictionProgress) -> None:
    print(f"[{progress.n_done:,}/{progress.n_genes:,} genes] {progress.message}", file=sys.stderr, flush=True)
