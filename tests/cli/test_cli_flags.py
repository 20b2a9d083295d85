"""Flags and help of every command. Flags say where and how, never what is computed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from prism_ray.cli import main, make_parser
from prism_ray.config import RunConfig

RESOURCES = {
    "--workers",
    "--cpus-per-worker",
    "--gpus-per-worker",
    "--checkpoint-every",
    "--micro-batch",
    "--checkpoint-activations",
    "--loading",
}

# `--set` is the one flag that says what is computed: it is recorded, and names another experiment.
STUDY = {"--smoke", "--set"}
SUBMIT = {"--store", "--storage", "--tracking-uri", "--max-concurrent", "--search-database", *RESOURCES}
LAUNCH = {"--address", *SUBMIT}
DASHBOARD = {"--address", "--insecure"}

# Frozen: a flag is added here only if it says where or how a command runs. What is computed is in catalogs, studies
# and configs; `simulate` makes data and `catalog` makes catalogs, so their flags are the settings of these.
FLAGS: dict[str, set[str]] = {
    "": {"--version"},
    "simulate": {"--genes", "--chromosomes", "--seed", "--confounding", "--test-confounding"},
    "catalog": set(),
    "catalog from-geneexp": {"--cell-type", "--label", "--out"},
    "build": {"--out", "--window-bp", "--workers"},
    "store": set(),
    "store info": set(),
    "store verify": set(),
    "store report": {"--out"},
    "store add-signal": {"--workers"},
    "train": {"--store", "--out", "--address", *RESOURCES},
    # Predicting is no run: which genes are wanted is said here.
    "predict": {
        *("--store", "--out", "--cell-type", "--genes", "--part", "--fold", "--window-bp", "--states"),
        *("--device", "--workers", "--address", "--tracking-uri"),
    },
    "study": set(),
    "study list": {"--json"},
    "study show": {"--json", *STUDY},
    "check": {"--deep", *STUDY, *LAUNCH},
    "plan": {"--json", *STUDY, *LAUNCH},
    "run": {*STUDY, *LAUNCH},
    "submit": {"--env", "--follow", "--yes", *STUDY, *SUBMIT, *DASHBOARD},
    "logs": {"--storage", "--follow", *DASHBOARD},
    "status": {"--storage", "--json", *DASHBOARD},
    "resume": {*LAUNCH},
    "retry": {"--failed", *LAUNCH},
    "cancel": {"--storage", "--tracking-uri", "--wait", *DASHBOARD},
    "sync": {"--storage", "--tracking-uri"},
    "report": {"--storage", "--tracking-uri", "--out", "--against", "--mixed", "--format"},
    # Which of a study's models is wanted is said here, as for predictions; the study says what is best.
    "promote": {"--champion", "--cell-type", "--fold", "--model-name", "--store", "--storage", "--tracking-uri"},
    "ui": {"--storage", "--tracking-uri", "--host", "--port", "--expose"},
    "doctor": {"--json"},
    # A checkpoint of the published implementation does not say all of its settings.
    "import-checkpoint": {"--out", "--signals", "--centre-bp", "--weight-activation", "--average"},
}
POSITIONAL = {
    "simulate": ["out"],
    "catalog from-geneexp": ["folder"],
    "build": ["catalog"],
    "store info": ["store"],
    "store verify": ["store"],
    "store report": ["store"],
    "store add-signal": ["store", "catalog", "signal"],
    "train": ["config"],
    "predict": ["model"],
    "study show": ["study"],
    "check": ["study"],
    "plan": ["study"],
    "run": ["study"],
    "submit": ["study"],
    "logs": ["name"],
    "status": ["name"],
    "resume": ["name"],
    "retry": ["name"],
    "cancel": ["name"],
    "report": ["name"],
    "promote": ["name"],
    "ui": ["name"],
    "import-checkpoint": ["checkpoint"],
}


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from parsers(inner, f"{name} {word}".strip())


COMMANDS = dict(parsers(make_parser()))


def test_no_command_is_left_out() -> None:
    assert COMMANDS.keys() == FLAGS.keys()


@pytest.mark.parametrize("command", FLAGS)
def test_flags_are_frozen(command: str) -> None:
    actions = [a for a in COMMANDS[command]._actions if not isinstance(a, argparse._SubParsersAction)]
    assert {flag for a in actions for flag in a.option_strings} == FLAGS[command] | {"-h", "--help"}
    assert [a.dest for a in actions if not a.option_strings] == POSITIONAL.get(command, [])


def test_no_flag_is_scientific() -> None:
    settings = {path.split(".")[-1].replace("_", "-") for path in RunConfig().flat()}
    for command in ("train", "run", "resume", "retry"):
        assert {flag.removeprefix("--") for flag in FLAGS[command]}.isdisjoint(settings)


@pytest.mark.parametrize("command", FLAGS)
def test_help_explains_every_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*command.split(), "--help"])
    assert done.value.code == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"usage: prism-ray {command}".rstrip())
    for flag in FLAGS[command]:
        assert flag in said.out
    for action in COMMANDS[command]._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action.dest


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["stor"], "invalid choice: 'stor'"),
        (["store"], "the following arguments are required: ACTION"),
        (["catalog"], "the following arguments are required: ACTION"),
        (["catalog", "from-geneexp", "d", "--out", "o"], "the following arguments are required: --cell-type"),
        (["build", "catalog.yaml"], "the following arguments are required: --out"),
        (["run", "smoke"], "the following arguments are required: --store"),
        (["train", "a.yaml", "--store", "s", "--out", "o", "--workers", "two"], "--workers: invalid int value: 'two'"),
        (["retry", "smoke"], "the following arguments are required: --failed"),
        (["cancel", "smoke", "--wait", "long"], "--wait: invalid float value: 'long'"),
        (["run", "smoke", "--store", "s", "--learning-rate", "1"], "unrecognized arguments: --learning-rate 1"),
    ],
)
def test_command_lines_that_are_refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(argv)
    assert done.value.code == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
