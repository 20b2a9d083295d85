"""`prism-ray import-checkpoint`: a checkpoint of the published implementation as a model folder."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `import-checkpoint` to the command's parser."""
    parser = subparsers.add_parser(
        "import-checkpoint",
        help="take over a checkpoint of the published Prism",
        description="Write a Lightning checkpoint of the published implementation as model.safetensors + config.json. "
        "Sizes follow from its weights; the flags say what weights do not tell, with the published values as defaults.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="FILE.ckpt", help="checkpoint; no code in it is run")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--signals",
        default="h3k27ac,dnase,hic",
        help="names of its signals in channel order (default h3k27ac,dnase,hic)",
    )
    parser.add_argument("--centre-bp", type=int, default=2000, help="positions that its head averages (default 2000)")
    parser.add_argument(
        "--weight-activation", choices=("sigmoid", "softmax"), default="sigmoid", help="of its states (default sigmoid)"
    )
    parser.add_argument(
        "--average", choices=("hidden", "prediction"), default="hidden", help="of its adjusted path (default hidden)"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Convert the checkpoint and say what it holds."""
    from prism_ray.model import count_parameters, save
    from prism_ray.model.import_official import import_official

    model = import_official(
        args.checkpoint,
        signals=tuple(name.strip() for name in args.signals.split(",") if name.strip()),
        centre_bp=args.centre_bp,
        weight_activation=args.weight_activation,
        average=args.average,
    )
    save(model, args.out)
    config, inputs = model.config, model.inputs
    print(
        f"{args.out}: d_model {config.d_model}, {config.n_layers} layers, n {config.n_states}, "
        f"{inputs.n_signals} signals, {inputs.n_scalars} scalars, {count_parameters(model):,} parameters"
    )
    return 0
