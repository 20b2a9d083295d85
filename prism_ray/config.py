"""The scientific settings of one run, and nothing else.

A `RunConfig` says what is trained on what. Where and how it runs (workers, folders, tracker) never
changes a result and is not part of it. Its `fingerprint` is therefore the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from prism_ray.documents import StrictModel, faults_of, lists_to_tuples
from prism_ray.errors import ConfigError, FaultList, did_you_mean

# Strict as all fields: a whole number is a valid decimal, text and booleans are not.
Real = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]

MOST_CNN_LAYERS = 16
"""Layers of a dilated `cnn`: the dilation doubles with each, so that the last one reaches 32 kb to either side."""


def _even_window(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd; a window has as many bases before the TSS as from it on, use an even number")
    return value


def _once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"{list(names)} names one of them twice")
    return names


class DataConfig(StrictModel):
    """What a run reads: which cell type and fold, which inputs, how long a window."""

    cell_type: Name = "K562"
    """Cell type whose genes, signals and label are used."""
    fold: Name = "fold_11"
    """Name of the leave-chromosome-out fold."""
    window_bp: int = Field(default=2000, ge=2, le=2_000_000)
    """Length of the window centred on the TSS, in bp; even."""
    sequence: bool = True
    """Whether the model sees DNA."""
    signals: tuple[Name, ...] = ("h3k27ac", "dnase", "hic")
    """Names of the signals that the model sees, in the order of its input channels; may be empty."""
    scalars: Literal["all"] | tuple[Name, ...] = "all"
    """Scalar features a gene: `all` that the store has, or their names; may be empty."""

    @field_validator("window_bp")
    @classmethod
    def _even(cls, value: int) -> int:
        return _even_window(value)

    @field_validator("signals", "scalars")
    @classmethod
    def _unique(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return value if isinstance(value, str) else _once_each(value)

    @model_validator(mode="after")
    def _sees_something(self) -> DataConfig:
        if not self.sequence and not self.signals:
            raise ValueError("the model would see nothing along the window; set sequence: true or name a signal")
        return self


class ModelConfig(StrictModel):
    """The network. Defaults are the published ones (arXiv 2602.21550 and its official implementation)."""

    backbone: Literal["caduceus", "mamba", "cnn"] = "caduceus"
    """Sequence backbone: `caduceus` is the bidirectional Mamba, `mamba` runs from left to right only, `cnn` stacks
    residual convolutions whose dilation doubles from layer to layer."""
    d_model: int = Field(default=128, ge=1)
    """Channels of the embedding, D."""
    n_layers: int = Field(default=4, ge=1)
    """Number of blocks; at most 16 of a `cnn`, whose last dilation is 2^(n_layers - 1)."""
    d_state: int = Field(default=16, ge=1)
    """State size of the selective scan a channel; without effect in a `cnn`."""
    d_conv: int = Field(default=4, ge=1)
    """Width of a Mamba block's depthwise convolution, in positions; without effect in a `cnn`."""
    expand: int = Field(default=2, ge=1)
    """Inner channels of a block as a multiple of `d_model`."""
    cnn_width: int = Field(default=5, ge=1)
    """Taps of a `cnn` block's dilated convolution, odd; without effect in other backbones."""
    n_states: int = Field(default=2, ge=0, le=64)
    """Number of background chromatin states, n ("confounders"); 0 is plain training."""
    states: Literal["learned", "random", "dropout"] = "learned"
    """Where the weights a_i of the states come from: `learned` from a gene's signals by an encoder; the others are
    controls without a parameter. `random`: drawn once from the seed, as the encoder's are before training, the same
    for every gene. `dropout`: each channel of a gene kept or masked by chance at each step."""
    state_keep: Real = Field(default=0.5, gt=0, lt=1)
    """dropout: probability that a channel is kept, and its weight in evaluation. 0.5 is where learned sigmoid weights
    start."""
    confounder_channels: int = Field(default=8, ge=1)
    """Channels c of the confounder encoder's first convolution; the others have 2c and 4c."""
    weight_activation: Literal["sigmoid", "softmax"] = "sigmoid"
    """What turns the encoder's output into the weights a_i; softmax runs over the D channels."""
    average: Literal["hidden", "prediction"] = "hidden"
    """What the adjusted path averages over the n states: the last hidden states or the predictions."""
    predict_with: Literal["plain", "adjusted"] = "plain"
    """Path whose prediction is validated and tested."""
    centre_bp: int = Field(default=2000, ge=1)
    """Positions around the TSS that the head averages over, in bp; clamped to the window."""

    @field_validator("cnn_width")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"{value} is even; a position sees as many on its left as on its right, use an odd number")
        return value

    @model_validator(mode="after")
    def _dilation_is_bounded(self) -> ModelConfig:
        if self.backbone == "cnn" and self.n_layers > MOST_CNN_LAYERS:
            raise ValueError(
                f"n_layers {self.n_layers} of a cnn would reach {2 ** (self.n_layers - 1):,} bp beyond a position; "
                f"use at most {MOST_CNN_LAYERS}"
            )
        return self

    @model_validator(mode="after")
    def _adjusted_needs_states(self) -> ModelConfig:
        if self.n_states == 0 and self.predict_with == "adjusted":
            raise ValueError(
                "predict_with: adjusted needs n_states >= 1; without background states there is no adjusted path"
            )
        return self

    @model_validator(mode="after")
    def _controls_have_an_effect(self) -> ModelConfig:
        problems = []
        if self.n_states == 0 and self.states != "learned":
            problems.append(f"states: {self.states} needs n_states >= 1")
        if self.states != "dropout" and self.state_keep != type(self).model_fields["state_keep"].default:
            problems.append(f"state_keep {self.state_keep} has no effect with states: {self.states}; remove it")
        if problems:
            raise ValueError("; ".join(problems))
        return self


_WITHOUT_EFFECT = {"caduceus": ("cnn_width",), "mamba": ("cnn_width",), "cnn": ("d_state", "d_conv")}
"""Settings of a model that its backbone does not read."""

_STATES_WITHOUT_EFFECT = {
    # Fingerprints from before there were controls do not have the first two.
    "learned": ("states", "state_keep"),
    "random": ("state_keep", "confounder_channels"),
    "dropout": ("confounder_channels", "weight_activation"),
}
"""Settings of a model that its kind of states does not read."""


class LossConfig(StrictModel):
    """Weights of the three losses, L = L1 + alpha L2 + beta L3."""

    alpha: Real = Field(default=1.0, ge=0)
    """Weight of the adjusted path's error L2; without effect where n_states is 0."""
    beta: Real = Field(default=1.0, ge=0)
    """Weight of the diversity L3 of the states; without effect where n_states is under 2 or states are not learned."""


class OptimizerConfig(StrictModel):
    """AdamW with a linear warm-up and a cosine decay, as published."""

    learning_rate: Real = Field(default=5.0e-4, gt=0)
    """Highest learning rate, reached at the end of the warm-up."""
    warmup_learning_rate: Real = Field(default=1.0e-5, ge=0)
    """Learning rate of the first step."""
    final_learning_rate: Real = Field(default=1.0e-4, ge=0)
    """Learning rate at the end of the cosine."""
    warmup_fraction: Real = Field(default=0.1, ge=0, le=1)
    """Part of all steps that the warm-up takes."""
    beta1: Real = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's first moment."""
    beta2: Real = Field(default=0.95, ge=0, lt=1)
    """Decay of AdamW's second moment."""
    weight_decay: Real = Field(default=1.0e-6, ge=0)
    """AdamW's weight decay; biases, norm layers other than RMSNorm, A_log and D are left out."""
    gradient_clip: Real = Field(default=1.0, gt=0)
    """Highest norm of the whole gradient."""

    @model_validator(mode="after")
    def _ordered(self) -> OptimizerConfig:
        for name in ("warmup_learning_rate", "final_learning_rate"):
            if getattr(self, name) > self.learning_rate:
                raise ValueError(
                    f"{name} {getattr(self, name)} is above learning_rate {self.learning_rate}; lower one of them"
                )
        return self


class TrainingConfig(StrictModel):
    """How long and in what steps a run trains."""

    n_steps: int = Field(default=50_000, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(default=8, ge=1)
    """Genes a step over all workers together."""
    validate_every_epochs: Real = Field(default=0.5, gt=0)
    """Epochs between validations; the last step is always validated."""
    shuffle_genes: int = Field(default=0, ge=0)
    """Genes that are shuffled together, rounded up to whole batches: blocks of 64 neighbouring genes come in a random
    order and are shuffled within windows of this many genes. 0: an epoch is one shuffle of all training genes."""
    precision: Literal["bf16", "float32"] = "bf16"
    """`bf16`: mixed precision by autocast, with float32 weights, scan state and norms."""


class EvaluationConfig(StrictModel):
    """A trained model given other input at validation and test. At its defaults nothing is changed: the run trains."""

    window_bp: int = Field(default=0, ge=0, le=2_000_000)
    """Length that the window is cut to around the TSS, in bp, even and below the trained one; 0: as trained."""
    cell_type: str = ""
    """Cell type whose genes, signals and label the model is given; empty: as trained."""
    signals: tuple[Name, ...] = ()
    """Signals whose values are taken away."""
    scalars: tuple[Name, ...] = ()
    """Scalar features whose values are taken away. Those made from a signal are not taken away with it."""
    remove_by: Literal["zero", "shuffle", "mean"] = "zero"
    """What stands in their place: 0; the values of another gene of the same split, drawn from the seed, the same gene
    for all of them; or the mean over the fold's training genes at each position of the window."""

    @field_validator("signals", "scalars")
    @classmethod
    def _unique(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _once_each(value)

    @field_validator("window_bp")
    @classmethod
    def _even(cls, value: int) -> int:
        return _even_window(value)

    @model_validator(mode="after")
    def _something_is_removed(self) -> EvaluationConfig:
        if self.remove_by != "zero" and not self.signals and not self.scalars:
            raise ValueError(f"remove_by: {self.remove_by} has no effect where neither signals nor scalars are named")
        return self

    @property
    def is_default(self) -> bool:
        """Whether nothing is changed."""
        return self == EvaluationConfig()


class RunConfig(StrictModel):
    """Everything that decides the numbers of one run, given its data."""

    data: DataConfig = DataConfig()
    """What is read."""
    model: ModelConfig = ModelConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """Weights of the losses."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimiser and its schedule."""
    training: TrainingConfig = TrainingConfig()
    """Steps, batch and precision."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What of a trained model's input is another one at validation and test; as trained by default."""
    seed: int = Field(default=2, ge=0, lt=2**31)
    """Seed of initialisation and of the order of genes; the published ones are 2, 22, 222, 2222, 22222."""

    @field_validator("evaluation")
    @classmethod
    def _evaluation_has_an_effect(cls, value: EvaluationConfig, info: ValidationInfo) -> EvaluationConfig:
        # Data with faults of their own are not there.
        problems = _evaluation_problems(value, info.data["data"]) if "data" in info.data else []
        if problems:
            raise ValueError("; ".join(problems))
        return value

    @property
    def is_evaluation(self) -> bool:
        """Whether this evaluates the model of another run, `trained()`, and trains none."""
        return not self.evaluation.is_default

    @property
    def states_are_driven_apart(self) -> bool:
        """Whether the diversity L3 trains anything: one state has no other to differ from, drawn ones no parameter."""
        return self.model.n_states > 1 and self.model.states == "learned"

    def trained(self) -> RunConfig:
        """Settings of the run that trains the model: the same ones, evaluated as trained."""
        return self.model_copy(update={"evaluation": EvaluationConfig()})

    def evaluated_data(self) -> DataConfig:
        """What the model is evaluated on: the data that it is trained on, or another cell type or a shorter window."""
        changes = {"cell_type": self.evaluation.cell_type, "window_bp": self.evaluation.window_bp}
        return self.data.model_copy(update={name: value for name, value in changes.items() if value})

    def canonical(self) -> dict[str, Any]:
        """Settings that have an effect, as JSON types: two configs with equal results are equal here."""
        settings: dict[str, Any] = self.model_dump(mode="json")
        unread = {*_WITHOUT_EFFECT[self.model.backbone], *_STATES_WITHOUT_EFFECT[self.model.states]}
        if self.model.n_states == 0:
            settings["loss"] = {}
            unread |= {"confounder_channels", "weight_activation", "average"}
        elif self.model.n_states == 1:
            # One state is its own average.
            unread.add("average")
        if self.model.n_states and not self.states_are_driven_apart:
            del settings["loss"]["beta"]
        for name in unread:
            del settings["model"][name]
        if self.training.shuffle_genes == 0:
            # Keeps the fingerprints from before there were windows.
            del settings["training"]["shuffle_genes"]
        settings["model"]["centre_bp"] = min(self.model.centre_bp, self.data.window_bp)
        if self.evaluation.is_default:
            # The run that trains the model: its fingerprint is from before there were evaluations.
            del settings["evaluation"]
        else:
            for name in ("signals", "scalars"):
                settings["evaluation"][name].sort()
        return settings

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def flat(self) -> dict[str, Any]:
        """All settings by dotted path, for trackers and tables."""
        return flatten(self.model_dump(mode="json"))


def _evaluation_problems(evaluation: EvaluationConfig, data: DataConfig) -> list[str]:
    """What of an evaluation has no effect on a model that was trained on these data, or cannot be."""
    problems = []
    if evaluation.window_bp >= data.window_bp:
        problems.append(
            f"window_bp {evaluation.window_bp} does not cut a window of {data.window_bp} bp; use a shorter one, or 0"
        )
    if evaluation.cell_type == data.cell_type:
        problems.append(f"cell_type {evaluation.cell_type} is the one that the model is trained on; name another")
    for name in evaluation.signals:
        if name not in data.signals:
            problems.append(f"signals: {_not_seen(name, data.signals)}")
    for name in evaluation.scalars if data.scalars != "all" else ():
        if name not in data.scalars:
            problems.append(f"scalars: {_not_seen(name, data.scalars)}")
    return problems


def _not_seen(name: str, seen: Sequence[str]) -> str:
    """That an input cannot be taken from a model that never had it."""
    return f"the model does not see {name!r}; {did_you_mean(name, seen)}"


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted path; lists are leaves."""
    leaves: dict[str, Any] = {}
    for key, value in nested.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{path}."))
        else:
            leaves[path] = value
    return leaves


def patched(config: RunConfig, patch: Mapping[str, Any], where: str) -> RunConfig:
    """`config` with fields replaced by dotted path, for example `{"model.n_states": 4}`.

    Args:
        where: file and place of the patch, for messages.

    Raises:
        ConfigError: an unknown path or a value that its field refuses, all of them together.
    """
    settings = config.model_dump(mode="python")
    faults = FaultList()
    for path, value in patch.items():
        *parents, leaf = path.split(".")
        section: Any = settings
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or leaf not in section or isinstance(section[leaf], dict):
            allowed = flatten(config.model_dump(mode="json"))
            faults.add(f"{where}.{path}", "is not a known field", did_you_mean(path, _nearest_paths(path, allowed)))
            continue
        section[leaf] = value
    faults.raise_if_any(ConfigError)
    try:
        return RunConfig.model_validate(lists_to_tuples(settings))
    except ValidationError as problem:
        faults.extend(faults_of(problem, RunConfig, lambda place: f"{where}.{'.'.join(map(str, place))}"))
    faults.raise_if_any(ConfigError)
    raise AssertionError("a validation error without faults")


def _nearest_paths(path: str, allowed: Mapping[str, Any]) -> list[str]:
    """Fields of the section that the path names, or all where it names none."""
    section = path.split(".")[0]
    inside = [name for name in allowed if name.startswith(f"{section}.")]
    return inside or list(allowed)
