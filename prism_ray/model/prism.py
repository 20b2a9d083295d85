"""Prism: a sequence backbone over DNA and signals, trained with backdoor adjustment over learned background states.

Legend: B genes, L positions in bp, S signals, K scalars, D channels, n background states, V copies of the input.
Source: arXiv 2602.21550.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prism_ray.config import ModelConfig
from prism_ray.errors import ConfigError, FaultList, InputError
from prism_ray.model.backbones import build_backbone
from prism_ray.model.confounders import ConfounderEncoder
from prism_ray.model.interface import InputShape, Output, Paths, TrainedOn, check_finite, check_inputs
from prism_ray.model.state_controls import DropoutStates, RandomStates


class Prism(nn.Module):
    """Expression of a gene from the DNA and signals around its TSS and from scalar features.

    The input passes the backbone once as it is (plain path) and once weighted by each of n background
    states (adjusted path). Linear layers before and after the backbone, and the encoder of states, keep
    PyTorch's default initialisation; the backbone has its own.
    """

    def __init__(self, config: ModelConfig, inputs: InputShape, *, seed: int | None = None) -> None:
        """Build a model on the CPU in float32.

        Args:
            config: the network.
            inputs: widths of what it will see.
            seed: the same seed gives the same weights, and each part its own draw: models that differ
                in one part (in n, say) start equal in the others. Without it the global generator draws.

        Raises:
            ConfigError: background states without signals to learn them from.
        """
        super().__init__()
        if config.n_states > 0 and inputs.n_signals == 0:
            faults = FaultList()
            problem = f"{config.n_states} background states have no signals to weigh"
            faults.add("model.n_states", problem, "name a signal in data.signals or use n_states: 0")
            faults.raise_if_any(ConfigError)
        self.config = config
        self.inputs = inputs
        self.trained_on: TrainedOn | None = None
        width = config.d_model
        self.sequence_layer: nn.Linear | None = None
        self.signal_layer: nn.Linear | None = None
        self.state_encoder: ConfounderEncoder | RandomStates | DropoutStates | None = None
        if inputs.sequence:
            with _drawn_from(seed, "sequence_layer"):
                self.sequence_layer = nn.Linear(4, width)
        if inputs.n_signals:
            with _drawn_from(seed, "signal_layer"):
                self.signal_layer = nn.Linear(inputs.n_signals, width)
        with _drawn_from(seed, "backbone"):
            self.backbone = build_backbone(config)
        with _drawn_from(seed, "head"):
            self.head = nn.Sequential(
                nn.Linear(width + inputs.n_scalars, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, 1),
            )
        if config.n_states:
            with _drawn_from(seed, "state_encoder"):
                self.state_encoder = _state_source(config, inputs.n_signals)

    def forward(
        self,
        sequence: Tensor | None,
        signals: Tensor | None,
        scalars: Tensor | None = None,
        *,
        paths: Paths = "both",
    ) -> Output:
        """Predictions for B genes.

        Args:
            sequence: one-hot DNA (A, C, G, T; N = zeros), (B, L, 4); None for a model without DNA.
            signals: (B, L, S); None for a model without signals.
            scalars: (B, K); None for a model without scalars.
            paths: `plain` runs one copy of the input and no encoder of states, `adjusted` n copies, `both` n + 1.

        Raises:
            InputError: an input that is missing, of another shape or not finite, or an adjusted path asked of n = 0.
            ConfigError: a window too short for the encoder of states.
        """
        n_genes, _ = check_inputs(self.inputs, sequence, signals, scalars)
        if self._device().type == "cpu" or not self.training:
            # On a GPU the answer must be waited for: training leaves it to its loss, which is watched anyway.
            check_finite(sequence, signals, scalars)
        # Mixed precision is for the backbone. Elsewhere it saves nothing, and bfloat16's three digits would
        # round raw signals and predictions.
        with _full_precision(self._device()):
            states = self._states(signals, paths)
            weights = _copy_weights(states, paths)  # (B, V, D) or None
            copies = self._copies(sequence, signals, weights)  # (B * V, L, D)
        hidden = self.backbone(copies)
        pooled = _centre_mean(hidden, self.config.centre_bp)  # (B * V, D)
        pooled = pooled.view(n_genes, -1, self.config.d_model)  # (B, V, D)
        plain = adjusted = None
        with _full_precision(self._device()):
            if paths != "adjusted":
                plain = self._predict(pooled[:, 0], scalars)
            if states is not None:
                adjusted = self._adjusted(pooled if paths == "adjusted" else pooled[:, 1:], scalars)
        return Output(plain, adjusted, states)

    def _states(self, signals: Tensor | None, paths: Paths) -> Tensor | None:
        """Weights of the background states, (B, D, n), where a path needs them."""
        if self.state_encoder is None:
            if paths == "adjusted":
                faults = FaultList()
                faults.add("paths", "'adjusted' was asked of a model with n_states 0", "use 'plain' or 'both'")
                faults.raise_if_any(InputError)
            return None
        return None if paths == "plain" else self.states(signals)

    def states(self, signals: Tensor | None) -> Tensor:
        """Weights a_i of the background states, (B, D, n), that genes with these signals (B, L, S) have.

        Raises:
            InputError: a model without background states, or no signals.
            ConfigError: a window too short for the encoder of states.
        """
        faults = FaultList()
        if self.state_encoder is None:
            faults.add("states", "were asked of a model with n_states 0", "such a model has none")
        elif signals is None:
            faults.add("signals", "are missing", "states are read from them")
        faults.raise_if_any(InputError)
        assert self.state_encoder is not None
        assert signals is not None
        states: Tensor = self.state_encoder(self._cast(signals))
        return states

    def _copies(self, sequence: Tensor | None, signals: Tensor | None, weights: Tensor | None) -> Tensor:
        """Embedded input, once a copy: W_dna x + (W_signal s + b) * a_i, sample-major, (B * V, L, D)."""
        embedded: Tensor | None = None
        if self.sequence_layer is not None:
            assert sequence is not None
            embedded = self.sequence_layer(self._cast(sequence))  # (B, L, D)
        if self.signal_layer is not None:
            assert signals is not None
            signal = self.signal_layer(self._cast(signals))  # (B, L, D)
            if weights is not None:
                signal = signal[:, None] * weights[:, :, None].to(signal.dtype)  # (B, V, L, D)
                embedded = embedded[:, None] if embedded is not None else None
            embedded = signal if embedded is None else embedded + signal
        assert embedded is not None
        return embedded.flatten(0, 1) if embedded.ndim == 4 else embedded

    def _adjusted(self, pooled: Tensor, scalars: Tensor | None) -> Tensor:
        """Adjusted prediction, (B,), from the pooled states of n copies, (B, n, D)."""
        if self.config.average == "hidden":
            return self._predict(pooled.mean(dim=1), scalars)
        repeated = scalars[:, None].expand(-1, pooled.shape[1], -1) if scalars is not None else None
        predictions = self._predict(pooled, repeated)  # (B, n)
        return predictions.mean(dim=1)

    def _predict(self, pooled: Tensor, scalars: Tensor | None) -> Tensor:
        """Head on pooled hidden states, (..., D) and scalars (..., K) -> (...)."""
        pooled = self._cast(pooled)
        if scalars is not None and self.inputs.n_scalars:
            pooled = torch.cat([pooled, self._cast(scalars)], dim=-1)
        prediction: Tensor = self.head(pooled).squeeze(-1)
        return prediction

    def _cast(self, values: Tensor) -> Tensor:
        return values.to(self._any_weight().dtype)

    def _device(self) -> torch.device:
        return self._any_weight().device

    def _any_weight(self) -> Tensor:
        """A weight that every model has: its dtype and device are the model's."""
        return next(self.head.parameters())


def _state_source(config: ModelConfig, n_signals: int) -> ConfounderEncoder | RandomStates | DropoutStates:
    """What gives the weights of the background states."""
    if config.states == "random":
        return RandomStates(config)
    if config.states == "dropout":
        return DropoutStates(config)
    return ConfounderEncoder(config, n_signals)


def _full_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)


def _copy_weights(states: Tensor | None, paths: Paths) -> Tensor | None:
    """Weight of the signal embedding in each copy, (B, V, D); None where the only copy is the plain one."""
    if states is None:
        return None
    weights = states.transpose(1, 2)  # (B, n, D)
    if paths == "adjusted":
        return weights
    return torch.cat([torch.ones_like(weights[:, :1]), weights], dim=1)


def _centre_mean(hidden: Tensor, centre_bp: int) -> Tensor:
    """Mean over the min(L, centre_bp) positions around the centre, (B, D), of hidden states (B, L, D)."""
    n_positions = hidden.shape[1]
    kept = min(n_positions, centre_bp)
    start = (n_positions - kept) // 2
    return hidden[:, start : start + kept].mean(dim=1)


@contextmanager
def _drawn_from(seed: int | None, part: str) -> Iterator[None]:
    """Inside, PyTorch's CPU generator is the one of this seed and part; outside, it is as before."""
    if seed is None:
        yield
        return
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        yield
