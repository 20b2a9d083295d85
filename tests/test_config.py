"""Settings of a run: what each field refuses, what its identity rests on, and patches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.config import RunConfig, flatten, patched
from prism_ray.errors import ConfigError

# The identity of the defaults. A change of it makes every finished trial a stranger: it must be meant, and said in
# the change log.
DEFAULT_FINGERPRINT = "c6feb2efde63f5465a89243cb1268cf41e03f9cf56ba850cd373cc01bf5c1c6b"

# Another valid value of every field.
OTHER: dict[str, Any] = {
    "data.cell_type": "GM12878",
    "data.fold": "fold_1",
    "data.window_bp": 4000,
    "data.sequence": False,
    "data.signals": ("dnase", "h3k27ac", "hic"),
    "data.scalars": ("gc", "exons"),
    "model.backbone": "mamba",
    "model.d_model": 64,
    "model.n_layers": 3,
    "model.d_state": 8,
    "model.d_conv": 3,
    "model.expand": 1,
    "model.cnn_width": 7,
    "model.n_states": 3,
    "model.states": "dropout",
    "model.state_keep": 0.3,
    "model.confounder_channels": 4,
    "model.weight_activation": "softmax",
    "model.average": "prediction",
    "model.predict_with": "adjusted",
    "model.centre_bp": 1000,
    "loss.alpha": 0.5,
    "loss.beta": 0.0,
    "optimizer.learning_rate": 1.0e-3,
    "optimizer.warmup_learning_rate": 0.0,
    "optimizer.final_learning_rate": 0.0,
    "optimizer.warmup_fraction": 0.2,
    "optimizer.beta1": 0.8,
    "optimizer.beta2": 0.99,
    "optimizer.weight_decay": 0.0,
    "optimizer.gradient_clip": 0.5,
    "training.n_steps": 10,
    "training.batch_size": 4,
    "training.validate_every_epochs": 1.0,
    "training.shuffle_genes": 1024,
    "training.precision": "float32",
    "evaluation.window_bp": 1000,
    "evaluation.cell_type": "H1",
    "evaluation.signals": ("hic",),
    "evaluation.scalars": ("gc",),
    "evaluation.remove_by": "mean",
    "seed": 22,
}
# Settings that are refused without another one, which gives them an effect.
NEEDS: dict[str, dict[str, Any]] = {
    "model.state_keep": {"model.states": "dropout"},
    "evaluation.remove_by": {"evaluation.signals": ("h3k27ac",)},
}
ALONE = sorted(OTHER.keys() - NEEDS.keys())
WITH_STATES = {"model.n_states", "model.states", "model.predict_with"}
# Without effect under the default backbone.
CNN_ONLY = {"model.cnn_width"}

TEXT, BOOL, WHOLE, NUMBER = ("input should be a valid " + kind for kind in ("string", "boolean", "integer", "number"))


def above(limit: float, equal: bool = True) -> str:
    return f"input should be greater than {'or equal to ' if equal else ''}{limit:g}"


def below(limit: float, equal: bool = True) -> str:
    return f"input should be less than {'or equal to ' if equal else ''}{limit}"


COUNTS = [(0, above(1)), (-3, above(1)), (2.0, WHOLE), (True, WHOLE), ("2", WHOLE), (None, WHOLE)]
NO_NUMBER = [
    ("0.5", NUMBER),
    (True, NUMBER),
    (None, NUMBER),
    (float("nan"), "input should be a finite number"),
    (float("inf"), "input should be a finite number"),
]
NAMES = [("", "string should have at least 1 character"), (5, TEXT), (None, TEXT)]


def one_of(*names: str) -> list[tuple[object, str]]:
    allowed = "input should be " + (", ".join(names[:-1]) + " or " if len(names) > 1 else "") + names[-1]
    return [(value, allowed) for value in ("other", 1, None, "")]


REFUSED: dict[str, list[tuple[Any, str]]] = {
    "data.cell_type": NAMES,
    "data.fold": NAMES,
    "data.window_bp": [
        (0, above(2)),
        (2_000_002, below(2_000_000)),
        (2001, "2001 is odd; a window has as many bases before the TSS as from it on, use an even number"),
        (2000.0, WHOLE),
        (True, WHOLE),
        ("2000", WHOLE),
    ],
    "data.sequence": [(1, BOOL), ("yes", BOOL), (None, BOOL)],
    "data.signals": [
        ("dnase", "input should be a list"),
        (None, "input should be a list"),
        (("dnase", "hic", "dnase"), "['dnase', 'hic', 'dnase'] names one of them twice"),
        (("dnase", ""), "string should have at least 1 character"),
        ((1,), TEXT),
    ],
    "data.scalars": [
        ("some", "input should be 'all', or input should be a list"),
        (5, "input should be 'all', or input should be a list"),
        (("a", "a"), "['a', 'a'] names one of them twice"),
    ],
    "model.backbone": one_of("'caduceus'", "'mamba'", "'cnn'"),
    "model.d_model": COUNTS,
    "model.n_layers": COUNTS,
    "model.d_state": COUNTS,
    "model.d_conv": COUNTS,
    "model.expand": COUNTS,
    "model.cnn_width": [
        *COUNTS[:2],
        (4, "4 is even; a position sees as many on its left as on its right, use an odd number"),
        *COUNTS[2:],
    ],
    "model.n_states": [(-1, above(0)), (65, below(64)), (2.0, WHOLE), (False, WHOLE), ("2", WHOLE)],
    "model.states": one_of("'learned'", "'random'", "'dropout'"),
    "model.state_keep": [
        (0, above(0, False)),
        (1, below(1, False)),
        (0.3, "state_keep 0.3 has no effect with states: learned; remove it"),
        *NO_NUMBER,
    ],
    "model.confounder_channels": COUNTS,
    "model.weight_activation": one_of("'sigmoid'", "'softmax'"),
    "model.average": one_of("'hidden'", "'prediction'"),
    "model.predict_with": one_of("'plain'", "'adjusted'"),
    "model.centre_bp": COUNTS,
    "loss.alpha": [(-0.1, above(0)), *NO_NUMBER],
    "loss.beta": [(-0.1, above(0)), *NO_NUMBER],
    "optimizer.learning_rate": [(0, above(0, False)), (-1e-3, above(0, False)), *NO_NUMBER],
    "optimizer.warmup_learning_rate": [
        (-1e-9, above(0)),
        (1.0, "warmup_learning_rate 1.0 is above learning_rate 0.0005; lower one of them"),
        *NO_NUMBER,
    ],
    "optimizer.final_learning_rate": [
        (-1e-9, above(0)),
        (1.0, "final_learning_rate 1.0 is above learning_rate 0.0005; lower one of them"),
        *NO_NUMBER,
    ],
    "optimizer.warmup_fraction": [(-0.1, above(0)), (1.1, below(1)), *NO_NUMBER],
    "optimizer.beta1": [(-0.1, above(0)), (1.0, below(1, False)), *NO_NUMBER],
    "optimizer.beta2": [(-0.1, above(0)), (1.0, below(1, False)), *NO_NUMBER],
    "optimizer.weight_decay": [(-0.1, above(0)), *NO_NUMBER],
    "optimizer.gradient_clip": [(0, above(0, False)), *NO_NUMBER],
    "training.n_steps": COUNTS,
    "training.batch_size": COUNTS,
    "training.validate_every_epochs": [(0, above(0, False)), *NO_NUMBER],
    "training.shuffle_genes": [(-1, above(0, True)), (2.0, WHOLE), (True, WHOLE), ("2", WHOLE)],
    "training.precision": one_of("'bf16'", "'float32'"),
    "evaluation.window_bp": [
        (-2, above(0)),
        (2_000_002, below(2_000_000)),
        (501, "501 is odd; a window has as many bases"),
        (2000, "window_bp 2000 does not cut a window of 2000 bp; use a shorter one, or 0"),
        (4000, "window_bp 4000 does not cut a window of 2000 bp"),
        (500.0, WHOLE),
        (None, WHOLE),
    ],
    "evaluation.cell_type": [
        (5, TEXT),
        (None, TEXT),
        ("K562", "cell_type K562 is the one that the model is trained on; name another"),
    ],
    "evaluation.signals": [
        ("dnase", "input should be a list"),
        (("hic", "hic"), "['hic', 'hic'] names one of them twice"),
        (("hic", "dnas"), "signals: the model does not see 'dnas'; use one of dnase, h3k27ac, hic. Did you mean"),
        (("",), "string should have at least 1 character"),
    ],
    "evaluation.scalars": [("all", "input should be a list"), (("gc", "gc"), "['gc', 'gc'] names one of them twice")],
    "evaluation.remove_by": [
        *one_of("'zero'", "'shuffle'", "'mean'"),
        ("mean", "remove_by: mean has no effect where neither signals nor scalars are named"),
    ],
    "seed": [(-1, above(0)), (2**31, below(2**31, False)), (1.5, WHOLE), (True, WHOLE), ("2", WHOLE)],
}


BETWEEN_FIELDS = ("lower one of them", "has no effect", "does not cut", "trained on", "does not see")
"""What is said of a section as a whole."""


def fingerprint(**settings: Any) -> str:
    """Of the defaults with fields replaced; dots in names are written as two underscores."""
    return patched(RunConfig(), {name.replace("__", "."): value for name, value in settings.items()}, "t").fingerprint()


def test_every_field_is_in_the_tables() -> None:
    """A new field must come with what it refuses and with another value."""
    assert REFUSED.keys() == RunConfig().flat().keys()
    assert OTHER.keys() == RunConfig().flat().keys()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param(path, value, message, id=f"{path}={value!r}")
        for path, refused in REFUSED.items()
        for value, message in refused
    ],
)
def test_what_a_field_refuses(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        patched(RunConfig(), {path: value}, "study.yaml: arms.a")
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1
    # A rule between fields is said of their section.
    assert caught.value.faults[0].where.startswith(f"study.yaml: arms.a.{path.split('.')[0]}")
    if not any(said in message for said in BETWEEN_FIELDS):
        assert caught.value.faults[0].where.startswith(f"study.yaml: arms.a.{path}")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (
            {"data.sequence": False, "data.signals": ()},
            "t.data: the model would see nothing along the window; set sequence: true or name a signal",
        ),
        (
            {"model.n_states": 0, "model.predict_with": "adjusted"},
            "t.model: predict_with: adjusted needs n_states >= 1; without background states there is no adjusted path",
        ),
        (
            {"model.n_states": 0, "model.states": "random", "model.state_keep": 0.3},
            "t.model: states: random needs n_states >= 1; state_keep 0.3 has no effect with states: random; remove it",
        ),
        (
            {"data.scalars": ("gc",), "evaluation.scalars": ("cg",), "evaluation.cell_type": "K562"},
            "t.evaluation: cell_type K562 is the one that the model is trained on; name another; "
            "scalars: the model does not see 'cg'; use one of gc",
        ),
        (
            {"model.backbone": "cnn", "model.n_layers": 17},
            "t.model: n_layers 17 of a cnn would reach 65,536 bp beyond a position; use at most 16",
        ),
    ],
)
def test_settings_that_do_not_fit_together(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        patched(RunConfig(), patch, "t")
    assert str(caught.value) == message


@pytest.mark.parametrize("path", OTHER)
def test_settings_are_frozen(path: str) -> None:
    config: Any = RunConfig()
    *parents, leaf = path.split(".")
    for parent in parents:
        config = getattr(config, parent)
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, leaf, OTHER[path])


class TestFingerprint:
    def test_known_answer(self) -> None:
        assert RunConfig().fingerprint() == DEFAULT_FINGERPRINT

    @pytest.mark.parametrize("path", sorted(OTHER.keys() - CNN_ONLY))
    def test_every_field_counts(self, path: str) -> None:
        needed = patched(RunConfig(), NEEDS.get(path, {}), "t")
        assert patched(needed, {path: OTHER[path]}, "t").fingerprint() != needed.fingerprint()

    def test_all_single_changes_differ_from_each_other(self) -> None:
        found = [
            patched(RunConfig(), {**NEEDS.get(path, {}), path: OTHER[path]}, "t").fingerprint()
            for path in OTHER.keys() - CNN_ONLY
        ]
        assert len(set(found)) == len(found)

    @pytest.mark.parametrize("path", [path for path in ALONE if path not in WITH_STATES])
    def test_without_states_only_what_has_an_effect_counts(self, path: str) -> None:
        idle = {"loss.alpha", "loss.beta", "model.confounder_channels", "model.weight_activation", "model.average"}
        idle |= CNN_ONLY
        plain = patched(RunConfig(), {"model.n_states": 0}, "t")
        changed = patched(plain, {path: OTHER[path]}, "t")
        assert (changed.fingerprint() == plain.fingerprint()) == (path in idle)

    @pytest.mark.parametrize("path", [path for path in ALONE if path != "model.n_states"])
    def test_with_one_state_only_what_has_an_effect_counts(self, path: str) -> None:
        single = patched(RunConfig(), {"model.n_states": 1}, "t")
        changed = patched(single, {path: OTHER[path]}, "t")
        assert (changed.fingerprint() == single.fingerprint()) == (path in {"loss.beta", "model.average"} | CNN_ONLY)

    @pytest.mark.parametrize("kind", ["random", "dropout"])
    @pytest.mark.parametrize("path", [path for path in ALONE if path != "model.states"])
    def test_states_by_chance_read_no_setting_of_the_encoder(self, path: str, kind: str) -> None:
        idle = {"loss.beta", "model.confounder_channels"} | CNN_ONLY
        if kind == "dropout":
            idle.add("model.weight_activation")
        control = patched(RunConfig(), {"model.states": kind}, "t")
        changed = patched(control, {path: OTHER[path]}, "t")
        assert (changed.fingerprint() == control.fingerprint()) == (path in idle)

    @pytest.mark.parametrize("path", [path for path in ALONE if path != "model.backbone"])
    def test_in_a_cnn_the_sizes_of_the_scan_do_not_count(self, path: str) -> None:
        cnn = patched(RunConfig(), {"model.backbone": "cnn"}, "t")
        changed = patched(cnn, {path: OTHER[path]}, "t")
        assert (changed.fingerprint() == cnn.fingerprint()) == (path in {"model.d_state", "model.d_conv"})

    @given(beyond=st.integers(0, 10**6), window_bp=st.integers(1, 1000).map(lambda half: 2 * half))
    def test_a_centre_beyond_the_window_is_the_window(self, beyond: int, window_bp: int) -> None:
        whole = fingerprint(data__window_bp=window_bp, model__centre_bp=window_bp)
        assert fingerprint(data__window_bp=window_bp, model__centre_bp=window_bp + beyond) == whole
        if window_bp > 2:
            assert fingerprint(data__window_bp=window_bp, model__centre_bp=window_bp - 1) != whole

    def test_a_whole_number_is_the_decimal_it_stands_for(self) -> None:
        # YAML reads `1` as a whole number, `1.0` as a decimal: the same run.
        assert fingerprint(loss__alpha=2) == fingerprint(loss__alpha=2.0)
        assert fingerprint(optimizer__learning_rate=1) == fingerprint(optimizer__learning_rate=1.0)

    def test_order_of_signals_counts_and_order_of_fields_does_not(self) -> None:
        assert fingerprint(data__signals=("dnase", "hic")) != fingerprint(data__signals=("hic", "dnase"))
        turned = dict(reversed(RunConfig().model_dump().items()))
        assert RunConfig.model_validate(turned).fingerprint() == RunConfig().fingerprint()

    def test_it_survives_a_record(self) -> None:
        config = patched(RunConfig(), OTHER, "t")
        again = RunConfig.model_validate_json(json.dumps(config.model_dump(mode="json")))
        assert again == config
        assert again.fingerprint() == config.fingerprint()


class TestTrained:
    def test_the_model_of_an_evaluation_is_that_of_the_same_run_without(self) -> None:
        run = patched(RunConfig(), {"data.window_bp": 4000, "seed": 7}, "t")
        changed = patched(run, {"evaluation.window_bp": 500, "evaluation.signals": ("hic",)}, "t")
        assert (run.is_evaluation, changed.is_evaluation) == (False, True)
        assert changed.trained() == run
        assert run.trained() == run
        assert changed.trained().fingerprint() == run.fingerprint()
        assert "evaluation" not in run.canonical()

    def test_the_order_of_removed_tracks_does_not_count(self) -> None:
        one = fingerprint(evaluation__signals=("hic", "dnase"))
        assert one == fingerprint(evaluation__signals=("dnase", "hic"))
        assert one != fingerprint(evaluation__signals=("dnase", "h3k27ac"))


def test_patches_replace_and_leave_the_rest() -> None:
    config = patched(RunConfig(), OTHER, "t")
    assert config.flat() == {**RunConfig().flat(), **{path: _json(value) for path, value in OTHER.items()}}
    # A list, as YAML gives it, is a sequence.
    assert patched(RunConfig(), {"data.signals": ["hic"]}, "t").data.signals == ("hic",)
    assert patched(RunConfig(), {}, "t") == RunConfig()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "model.n_state",
            "t.model.n_state: is not a known field; use one of model.average, model.backbone, model.centre_bp, "
            "model.cnn_width, model.confounder_channels, model.d_conv, model.d_model, model.d_state, model.expand, "
            "model.n_layers, model.n_states, model.predict_with, ... (15 in all). Did you mean 'model.n_states'?",
        ),
        (
            "loss.alfa",
            "t.loss.alfa: is not a known field; use one of loss.alpha, loss.beta. Did you mean 'loss.alpha'?",
        ),
        ("sed", "... (42 in all). Did you mean 'seed'?"),
        ("optim.learning_rate", "... (42 in all). Did you mean 'optimizer.learning_rate'?"),
        ("model", "t.model: is not a known field; use one of model.average"),
        ("seed.value", "t.seed.value: is not a known field"),
        ("model.n_states.x", "t.model.n_states.x: is not a known field"),
        ("", "t.: is not a known field"),
    ],
)
def test_unknown_fields_of_a_patch(path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        patched(RunConfig(), {path: 1}, "t")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("patch", "places"),
    [
        ({"model.x": 1, "y": 2}, ["t.model.x", "t.y"]),
        (
            {"seed": -1, "training.n_steps": 0, "model.d_model": "8"},
            ["t.model.d_model", "t.training.n_steps", "t.seed"],
        ),
    ],
)
def test_all_faults_of_a_patch_together(patch: dict[str, Any], places: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        patched(RunConfig(), patch, "t")
    assert [fault.where for fault in caught.value.faults] == places
    assert str(caught.value).startswith(f"{len(places)} faults:")


def test_a_number_written_as_yaml_reads_text() -> None:
    with pytest.raises(ConfigError) as caught:
        patched(RunConfig(), {"optimizer.learning_rate": "5e-4"}, "t")
    assert str(caught.value) == "t.optimizer.learning_rate: '5e-4' is text to YAML, not a number; write 5.0e-4"


def test_flatten_takes_lists_as_leaves() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": [1, 2], "e": None}


def test_defaults_are_the_published_settings() -> None:
    flat = RunConfig().flat()
    published: dict[str, object] = {
        "data.window_bp": 2000,
        "model.d_model": 128,
        "model.n_layers": 4,
        "model.n_states": 2,
        "loss.alpha": 1.0,
        "loss.beta": 1.0,
        "optimizer.learning_rate": 5e-4,
        "optimizer.beta2": 0.95,
        "training.n_steps": 50_000,
        "training.batch_size": 8,
        "seed": 2,
    }
    assert {name: flat[name] for name in published} == published


def _json(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
