"""What goes into a Prism and what comes out.

Legend: B genes, L positions in bp, S signals, K scalars, D channels, n background states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from prism_ray.config import RunConfig
from prism_ray.errors import ConfigError, FaultList, InputError

Paths = Literal["both", "plain", "adjusted"]


@dataclass(frozen=True)
class InputShape:
    """Widths of the inputs that a model is built for.

    Attributes:
        n_signals: signals along the window, S; may be 0.
        n_scalars: scalar features a gene, K; may be 0.
        sequence: whether the model sees DNA.

    Raises:
        ConfigError: a negative count, or nothing to see along the window.
    """

    n_signals: int
    n_scalars: int
    sequence: bool = True

    def __post_init__(self) -> None:
        faults = FaultList()
        for name in ("n_signals", "n_scalars"):
            if getattr(self, name) < 0:
                faults.add(name, f"{getattr(self, name)} is negative", "use 0 or more")
        if self.n_signals == 0 and not self.sequence:
            faults.add("sequence", "is false and there are no signals", "the model would see nothing along the window")
        faults.raise_if_any(ConfigError)


@dataclass(frozen=True)
class TrainedOn:
    """What a model was trained on; what it is given later must match.

    Attributes:
        signals: names of the signals in the order of the input channels.
        scalars: names of the scalar features in order.
        window_bp: length of the training window in bp; None where it is not known.
        cell_type: name of the cell type; None where it is not known.
        run_config: the whole run's settings; None for a model from elsewhere.
    """

    signals: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()
    window_bp: int | None = None
    cell_type: str | None = None
    run_config: RunConfig | None = None


@dataclass
class Output:
    """Predictions of a Prism for B genes.

    Attributes:
        plain: prediction of the plain path, (B,), in units of the label; None where not computed.
        adjusted: prediction averaged over the background states, (B,); None for n = 0 or where not computed.
        state_weights: weights a_i of the background states, (B, D, n); None for n = 0 or where not computed.
    """

    plain: Tensor | None
    adjusted: Tensor | None
    state_weights: Tensor | None


def check_inputs(
    shape: InputShape, sequence: Tensor | None, signals: Tensor | None, scalars: Tensor | None
) -> tuple[int, int]:
    """(B, L) of inputs that fit a model.

    Raises:
        InputError: an input that is missing, not expected, or of another shape; all of them together.
    """
    faults = FaultList()
    given = {"sequence": sequence, "signals": signals, "scalars": scalars}
    widths = {"sequence": 4 if shape.sequence else 0, "signals": shape.n_signals, "scalars": shape.n_scalars}
    n_genes: int | None = None
    n_positions: int | None = None
    for name, tensor in given.items():
        dimensions = ["B", str(widths[name])] if name == "scalars" else ["B", "L", str(widths[name])]
        if tensor is None or (widths[name] == 0 and tensor.shape[-1:] == (0,)):
            if widths[name]:
                faults.add(name, "is missing", f"this model expects ({', '.join(dimensions)})")
            continue
        if not widths[name]:
            faults.add(name, f"has shape {tuple(tensor.shape)}", "this model was built without it: give None")
            continue
        dimensions[0] = str(n_genes) if n_genes is not None else "B"
        if name != "scalars" and n_positions is not None:
            dimensions[1] = str(n_positions)
        fits = tensor.ndim == len(dimensions) and tensor.numel() > 0
        fits = fits and all(
            not want.isdigit() or int(want) == have for want, have in zip(dimensions, tensor.shape, strict=True)
        )
        if not fits:
            faults.add(name, f"has shape {tuple(tensor.shape)}", f"expected ({', '.join(dimensions)})")
            continue
        n_genes = tensor.shape[0]
        if name != "scalars":
            n_positions = tensor.shape[1]
    faults.raise_if_any(InputError)
    assert n_genes is not None
    assert n_positions is not None
    return n_genes, n_positions


def check_finite(sequence: Tensor | None, signals: Tensor | None, scalars: Tensor | None) -> None:
    """Refuse values that are not numbers or are infinite: a single one makes a gene's predictions NaN in silence.

    Raises:
        InputError: naming every input with such values and the number of genes that have them.
    """
    faults = FaultList()
    for name, tensor in (("sequence", sequence), ("signals", signals), ("scalars", scalars)):
        # A sum finds any such value in one pass; where large values overflow it, the exact count below decides.
        if tensor is None or not tensor.is_floating_point() or torch.isfinite(tensor.sum()):
            continue
        genes = int((~torch.isfinite(tensor).flatten(1).all(dim=1)).sum())
        if genes:
            faults.add(
                name,
                f"has values that are NaN or infinite in {genes} of {tensor.shape[0]} genes",
                "give 0 where a signal is missing, and leave out genes without scalar features",
            )
    faults.raise_if_any(InputError)


def check_names(trained_on: TrainedOn, signals: Sequence[str], scalars: Sequence[str]) -> None:
    """Refuse inputs whose names are not those that a model was trained on, in the same order.

    Args:
        trained_on: of the model.
        signals: names of the channels of the signals that it is to be given.
        scalars: names of the scalar features.

    Raises:
        InputError: names that lack, are too many or come in another order; both kinds together.
    """
    faults = FaultList()
    for kind, given, wanted in (("signals", signals, trained_on.signals), ("scalars", scalars, trained_on.scalars)):
        if tuple(given) == wanted:
            continue
        problem = f"{list(given)} are not those that the model was trained on"
        if sorted(given) == sorted(wanted):
            problem = f"{list(given)} come in another order than the model was trained on"
        faults.add(kind, problem, f"give {list(wanted)}, in this order")
    faults.raise_if_any(InputError)
