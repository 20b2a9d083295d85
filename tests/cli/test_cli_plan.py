"""`prism-ray plan` and `check` on a small store: what they count, what they leave alone, what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prism_ray.cli import main
from prism_ray.config import RunConfig
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch import StudySettings
from prism_ray.distributed.plan import PlanSettings, plan_study
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.step_costs import read_probes
from prism_ray.distributed.study_check import CheckSettings, check_study
from prism_ray.errors import TrainingError
from prism_ray.study.designs import expand
from prism_ray.study.load import load_study
from prism_ray.study.spec import Study
from prism_ray.training.step_probe import MeasuredStep
from tests.store.factory import Recipe, make_store
from tests.study.texts import ABLATION, SEARCH, changed

SMALL = ("  model.d_model: 16\n", "  model.d_model: 16\n  data.window_bp: 200\n  training.n_steps: 100\n")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    make_store(tmp_path / "store", Recipe(window_bp=200))
    (tmp_path / "asked.yaml").write_text(changed(ABLATION, SMALL))
    return load_study(tmp_path / "asked.yaml")


def recorded(config: RunConfig, store: Path, each: TrialResources) -> MeasuredStep:
    return MeasuredStep(0.1 * (1 + config.model.n_states), 0.001, 2**28, 2**34, "cpu")


def check_settings(folder: Path) -> CheckSettings:
    launch = StudySettings(
        store=folder / "store",
        storage=folder / "results",
        tracking_uri=f"sqlite:///{folder}/results/mlflow.db",
        backend=InProcessBackend(),
    )
    return CheckSettings(launch, measure=recorded)


def test_a_plan_counts_what_is_finished_and_what_others_did(study: Study, tmp_path: Path) -> None:
    import prism_ray.store

    digest = prism_ray.store.open(tmp_path / "store").digest
    ids = [trial.trial_id(digest) for trial in expand(study)]
    settings = PlanSettings(tmp_path / "store", tmp_path / "results")
    assert plan_study(study, settings).n_left == study.n_trials == 6
    for name, of in (("asked", ids[:1]), ("other", ids[:2])):
        folder = tmp_path / "results" / "studies" / name
        folder.mkdir(parents=True)
        (folder / "launch.json").write_text(json.dumps({"trials": [[one, "label", 100] for one in of]}))
    from prism_ray.distributed.workspace_trials import finished_among, trials_of_other_studies

    for one in ids[:2]:
        (tmp_path / "results" / "trials" / one).mkdir(parents=True)
    assert finished_among(tmp_path / "results", ids) == set()
    for one in ids[:2]:
        (tmp_path / "results" / "trials" / one / "result.json").write_text("{}")
    assert finished_among(tmp_path / "results", ids) == set(ids[:2])
    assert trials_of_other_studies(tmp_path / "results", "asked") == (set(ids[:2]), set(ids[:1]))


def test_check_measures_and_the_plan_knows(study: Study, tmp_path: Path) -> None:
    settings = PlanSettings(tmp_path / "store", tmp_path / "results", max_concurrent=2)
    before = plan_study(study, settings)
    assert (before.hours, before.unmeasured) == (None, ("n0", "n2", "n4"))
    assert not (tmp_path / "results").exists()
    checks = list(check_study(study, check_settings(tmp_path)))
    assert [check.name for check in checks if not check.ok] == []
    assert [check.name for check in checks][-2:] == ["step of the largest trial", "step of the smallest trial"]
    assert len(read_probes(tmp_path / "results")) == 2
    plan = plan_study(study, settings)
    assert [row.source for row in plan.rows] == ["probe", "between", "probe"]
    assert [row.step_s for row in plan.rows] == pytest.approx([0.1, 0.3, 0.5])
    # 100 steps; one epoch has one step of 8 of 12 genes, so each step is validated on 6 genes, and 6 are tested.
    trial_s = [100 * step + 606 * 0.001 for step in (0.1, 0.3, 0.5)]
    assert [row.trial_s for row in plan.rows] == pytest.approx(trial_s)
    assert plan.hours == pytest.approx(2 * sum(trial_s) / 3600)
    assert plan.wall_s == pytest.approx(sum(trial_s))
    assert plan.peak_bytes == 2**28


def test_a_step_that_fails_and_a_store_that_lacks_are_said(study: Study, tmp_path: Path) -> None:
    def failing(config: RunConfig, store: Path, each: TrialResources) -> MeasuredStep:
        raise TrainingError("8 genes do not fit")

    settings = CheckSettings(check_settings(tmp_path).launch, measure=failing)
    failed = [check for check in check_study(study, settings) if not check.ok]
    assert [(check.name, check.faults[0].problem) for check in failed] == [
        ("step of the largest trial", "8 genes do not fit")
    ]
    (tmp_path / "asked.yaml").write_text(changed(ABLATION, ("folds: [fold_1]", "folds: [fold_9]")))
    failed = [check for check in check_study(load_study(tmp_path / "asked.yaml"), settings) if not check.ok]
    assert [check.name for check in failed] == ["inputs of every trial"]
    assert len(failed[0].faults) == 2


def test_a_search_lies_between_its_smallest_and_largest_proposal(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=2000))
    (tmp_path / "asked.yaml").write_text(SEARCH)
    plan = plan_study(load_study(tmp_path / "asked.yaml"), PlanSettings(tmp_path / "store", tmp_path / "results"))
    assert (plan.n_trials, plan.n_left) == (12, 12)
    assert [(row.name, row.n_states) for row in plan.rows] == [("smallest proposal", 0), ("largest proposal", 8)]


def test_plan_prints_a_table_or_json_and_writes_nothing(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["plan", str(study.path), "--store", str(tmp_path / "store"), "--storage", str(tmp_path / "results")]
    assert main(argv) == 0
    said = capsys.readouterr().out
    for part in ("trials     6: 6 left, 0 finished", "not measured: `prism-ray check`", "n4", "2/2"):
        assert part in said
    assert main([*argv, "--json", "--set", "model.n_layers=2"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["n_left"], written["overrides"], len(written["rows"])) == (6, "model.n_layers = 2", 3)
    assert not (tmp_path / "results").exists()


def test_a_plan_loads_no_engine(study: Study, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from prism_ray.cli import main\n"
        f"main(['plan', {str(study.path)!r}, '--store', {str(tmp_path / 'store')!r}, '--json'])\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
