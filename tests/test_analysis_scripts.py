"""Every script under analysis/: a figure with table and record where there is something to show, words where not."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from prism_ray.tracking import MlflowTracker, StudyHeader
from prism_ray.tracking.predictions import PREDICTIONS_NAME, STATES_NAME
from tests.conftest import REPOSITORY
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY, fresh_store, trial_header

SCRIPTS = sorted(
    path.stem for path in (REPOSITORY / "analysis").glob("*.py") if path.stem not in ("__init__", "script", "sources")
)
OF_GENES = {"folds", "predicted", "residuals", "state_weights"}


def script(name: str) -> ModuleType:
    return import_module(f"analysis.{name}")


def states() -> pd.DataFrame:
    return trials_of([trial(arm, seed, 0.2 + seed / 1000) for arm in ("n0", "n2") for seed in (2, 22)])


def windows() -> pd.DataFrame:
    rows = [trial(f"w{window}", 2, 0.2, **{"param/data.window_bp": window}) for window in (500, 1000)]
    return trials_of(rows)


def subsets() -> pd.DataFrame:
    names = ("none", "dnase", "h3k27ac+dnase")
    return trials_of([trial(name, 2, 0.2, **{"param/data.signals": name}) for name in names])


def weights() -> pd.DataFrame:
    return trials_of(
        [
            trial(f"a{a}b{b}", 2, 0.2 + a - b, **{"param/loss.alpha": a, "param/loss.beta": b})
            for a, b in itertools.product((0.0, 0.5), (0.0, 1.0))
        ]
    )


def evaluated() -> pd.DataFrame:
    own = {"param/data.window_bp": 2000, "param/evaluation.window_bp": 0, "param/evaluation.signals": "none"}
    own |= {"param/evaluation.cell_type": "", "param/evaluation.remove_by": "zero"}
    arms = {
        "n2__intact": {},
        "n2__zero_dnase": {"param/evaluation.signals": "dnase"},
        "n2__cut": {"param/evaluation.window_bp": 500},
        "n2__there": {"param/evaluation.cell_type": "GM12878"},
    }
    return trials_of([trial(arm, 2, 0.2 + len(arm) / 100, **{**own, **change}) for arm, change in arms.items()])


def searched() -> pd.DataFrame:
    draws = np.random.default_rng(0)
    rows = [
        trial(
            f"proposal-{number}",
            2,
            float(draws.random()),
            **{
                "trial_id": f"t{number}",
                "cost/train_s": float(draws.random()),
                "param/model.d_model": int(draws.integers(1, 9)),
                "param/optimizer.learning_rate": float(draws.random()),
            },
        )
        for number in range(24)
    ]
    return trials_of(rows)


CASES: dict[str, tuple[Callable[[], pd.DataFrame], list[str]]] = {
    "state_count": (states, []),
    "window_length": (windows, []),
    "modality_subsets": (subsets, []),
    "loss_weights": (weights, []),
    "modality_removal": (evaluated, ["--baseline", "n2__intact"]),
    "window_truncation": (evaluated, []),
    "cross_cell": (evaluated, []),
    "forest": (states, ["--baseline", "n0"]),
    "history": (searched, []),
    "settings": (searched, []),
    "importance": (searched, []),
    "parallel": (searched, []),
    "pareto": (searched, ["--second-metric", "cost/train_s"]),
}


def written(folder: Path, name: str) -> pd.DataFrame:
    """The table beside a figure, whose other files are there too."""
    kinds = ("csv", "json", "pdf", "png")
    assert sorted(file.name for file in folder.iterdir()) == [f"{name}.{kind}" for kind in kinds]
    assert json.loads((folder / f"{name}.json").read_text())["files"] == [
        f"{name}.{kind}" for kind in ("csv", "png", "pdf")
    ]
    return pd.read_csv(folder / f"{name}.csv")


def test_each_script_is_run_here() -> None:
    assert set(SCRIPTS) == set(CASES) | OF_GENES


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_names_itself_and_does_nothing_on_import(name: str) -> None:
    text = (REPOSITORY / "analysis" / f"{name}.py").read_text()
    tree = ast.parse(text)
    assert f"python -m analysis.{name} --study " in (ast.get_docstring(tree) or "")
    assert f"Write `{name}.pdf`" in text
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.FunctionDef, ast.If)
    assert all(isinstance(node, allowed) for node in tree.body)
    assert script(name).NAME == name


@pytest.mark.parametrize("name", CASES)
def test_a_table_of_trials_gives_a_figure_or_words(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, arguments = CASES[name]
    trials = make()
    trials.assign(study="made", data_digest="d" * 64, results_version=1).to_parquet(tmp_path / "trials.parquet")
    given = ["--trials", str(tmp_path / "trials.parquet"), "--out", str(tmp_path / "out"), *arguments]
    assert script(name).main(given) == 0
    assert len(written(tmp_path / "out", name))
    said = capsys.readouterr().out
    assert f"{len(trials)} of {len(trials)} " in said
    assert str(tmp_path / "out" / f"{name}.png") in said

    failed = trials.assign(study="made", data_digest="d" * 64, results_version=1, status="FAILED")
    failed.to_parquet(tmp_path / "trials.parquet")
    given[3] = str(tmp_path / "none")
    assert script(name).main(given) == 1
    assert "made has nothing to draw here: " in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, StudyHeader]:
    """A store with one run of two arms, which keep what a trial keeps of its genes."""
    folder = tmp_path_factory.mktemp("tracked")
    uri = fresh_store(folder)
    label = np.linspace(0, 4, 60)
    names = [f"g{number}" for number in range(60)]
    parent = MlflowTracker(uri).open_study(STUDY, {})
    for arm in STUDY.arms:
        noise = np.random.default_rng(len(arm)).normal(0, 0.2, 60)
        chrom = ["chr22"] * 30 + ["chrX"] * 30
        tables = {
            PREDICTIONS_NAME: pd.DataFrame(
                {"gene_id": names, "chrom": chrom, "label": label, "prediction": label + noise}
            ),
            STATES_NAME: pd.DataFrame({"gene_id": names, "state_1": [[0.25, 0.75]] * 60}),
        }
        log = MlflowTracker(uri).open_trial(parent, trial_header(arm))
        log.log({"test/mse": 0.2, "best/mse": 0.2}, 1)
        for name, table in tables.items():
            table.to_parquet(folder / name)
        log.log_files({name: folder / name for name in tables})
        log.finish("FINISHED")
    return uri, STUDY


@pytest.mark.parametrize("name", sorted(OF_GENES))
def test_figures_of_genes_read_the_runs_files(name: str, tracked: tuple[str, StudyHeader], tmp_path: Path) -> None:
    uri, study = tracked
    given = ["--study", study.name, "--tracking-uri", uri, "--out", str(tmp_path / "out")]
    assert script(name).main(given) == 0
    assert len(written(tmp_path / "out", name))


def test_wrong_arguments_of_a_table_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = states().assign(study="made", data_digest=["d" * 64] * 3 + ["e" * 64], results_version=1)
    table.to_parquet(tmp_path / "trials.parquet")
    given = ["--trials", str(tmp_path / "trials.parquet"), "--out", str(tmp_path / "out")]
    assert script("forest").main([*given, "--baseline", "n7"]) == 2
    assert "has no arm 'n7'; it has n0, n2" in capsys.readouterr().err
    assert script("state_count").main(given) == 2
    assert "study made: its trials come from 2 data digests: dddddddddddd, eeeeeeeeeeee" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert script("state_count").main([*given, "--mixed"]) == 0
