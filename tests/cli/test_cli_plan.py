"""`prism-ray plan` and `check` on a small store: what they count, what they leave alone, what they refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import prism_ray.store
from prism_ray.api import Silent
from prism_ray.cli import main
from prism_ray.config import DataConfig, RunConfig
from prism_ray.distributed import gpus
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.ingest import read_projection
from prism_ray.distributed.launch_note import TrialNote, write_launch
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.plan import plan_study, study_costs
from prism_ray.distributed.plan_costs import PlanCosts
from prism_ray.distributed.plan_facts import PlanSettings
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.room import Room
from prism_ray.distributed.step_costs import read_probes
from prism_ray.distributed.stream_reads import StreamReads
from prism_ray.distributed.study_check import CheckSettings, check_study
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.workspace_trials import finished_among, noted_trials
from prism_ray.errors import InputError, TrainingError
from prism_ray.sizes import size_text
from prism_ray.store import StorePlace
from prism_ray.store.reading import bytes_read
from prism_ray.study.designs import expand
from prism_ray.study.finalists import finalist_trials
from prism_ray.study.load import load_study
from prism_ray.study.spec import Budget, Study
from prism_ray.training.step_probe import MeasuredStep
from prism_ray.workload import plain_multiply_adds, step_multiply_adds
from tests.distributed.workspaces import NOTE, recorded
from tests.store.factory import Recipe, make_store
from tests.study.texts import ABLATION, EVALUATION, SEARCH, changed
from tests.tracking_support import fresh_store

SMALL = ("  model.d_model: 16\n", "  model.d_model: 16\n  data.window_bp: 200\n  training.n_steps: 100\n")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    make_store(tmp_path / "store", Recipe(window_bp=200))
    (tmp_path / "asked.yaml").write_text(changed(ABLATION, SMALL))
    return load_study(tmp_path / "asked.yaml")


def recorded_step(config: RunConfig, store: Path, each: TrialResources) -> MeasuredStep:
    return MeasuredStep(0.1 * (1 + config.model.n_states), 0.001, 2**28, 2**34, "cpu")


def check_settings(folder: Path) -> CheckSettings:
    launch = StudySettings(
        store=folder / "store",
        storage=folder / "results",
        tracking_uri=f"sqlite:///{folder}/results/mlflow.db",
        backend=InProcessBackend(),
    )
    return CheckSettings(launch, measure=recorded_step)


def test_a_plan_counts_what_is_finished_and_what_others_did(study: Study, tmp_path: Path) -> None:
    digest = prism_ray.store.open(tmp_path / "store").digest
    ids = [trial.trial_id(digest) for trial in expand(study)]
    settings = PlanSettings(tmp_path / "store", tmp_path / "results")
    assert plan_study(study, settings).n_left == study.n_trials == 6
    for name, of in (("asked", ids[:1]), ("other", ids[:2])):
        notes = tuple(TrialNote(one, f"n0 seed {number} fold_1", 100) for number, one in enumerate(of))
        write_launch(settings.storage, replace(NOTE, study=name, trials=notes))
    for one in ids[:2]:
        (tmp_path / "results" / "trials" / one).mkdir(parents=True)
    assert finished_among(tmp_path / "results", ids) == set()
    assert {name: len(trials) for name, trials in noted_trials(settings.storage).items()} == {"asked": 1, "other": 2}
    for one, trial in list(zip(ids, expand(study), strict=True))[:2]:
        recorded(settings.storage, one, digest, trial.config, train_s=100.0)
    assert finished_among(settings.storage, ids) == set(ids[:2])
    plan = plan_study(study, settings)
    assert (plan.n_finished, plan.n_left, plan.n_linked) == (2, 4, 1)
    (settings.storage / "studies" / "other" / "launch.json").write_text("{}")
    with pytest.raises(InputError, match=r"other/launch\.json: cannot be read"):
        plan_study(study, settings)


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


FINALISTS = "  n_trials: 12\n  finalists: {k: 2, seeds: [2, 22, 222], patch: {training.n_steps: 200}}\n"


@pytest.fixture
def search(tmp_path: Path) -> Study:
    """Proposals of 100 steps, and the two best of them trained again for 200 over three seeds, with the baseline."""
    make_store(tmp_path / "store", Recipe(window_bp=200))
    baseline = "kind: search\nbaseline: {data.window_bp: 200, model.d_model: 16, training.n_steps: 100}\n"
    text = changed(SEARCH, ("  n_trials: 12\n", FINALISTS), ("kind: search\n", baseline))
    (tmp_path / "asked.yaml").write_text(text)
    return load_study(tmp_path / "asked.yaml")


def baseline_is_done(search: Study, settings: PlanSettings) -> None:
    """A record of the search's baseline, of the first of its finalists' seeds."""
    digest = prism_ray.store.open(settings.store).digest
    first = finalist_trials(search, ())[0]
    recorded(settings.storage, first.trial_id(digest), digest, first.config, 10.0)


def test_a_plan_counts_the_finalists_of_a_search(search: Study, tmp_path: Path) -> None:
    settings = PlanSettings(tmp_path / "store", tmp_path / "results")
    assert all(check.ok for check in check_study(search, check_settings(tmp_path)))
    plan = plan_study(search, settings)
    assert (plan.n_trials, plan.n_left, plan.n_finished) == (12 + 9, 21, 0)
    assert [(row.name, row.n_trials) for row in plan.rows] == [
        ("smallest proposal", 0),
        ("largest proposal", 0),
        ("baseline", 3),
        ("smallest finalist", 0),
        ("largest finalist", 0),
    ]
    row = {row.name: row.trial_s for row in plan.rows}
    # Twice the steps, and twice the validations between them; the test comes once.
    assert row["largest finalist"] == pytest.approx(2 * row["largest proposal"] - 6 * 0.001)
    most = 12 * row["largest proposal"] + 3 * row["baseline"] + 6 * row["largest finalist"]
    least = 12 * row["smallest proposal"] + 3 * row["baseline"] + 6 * row["smallest finalist"]
    assert plan.hours == pytest.approx(most / 3600)
    assert plan.hours_least == pytest.approx(least / 3600)
    labels = ["proposal-a seed 2 fold_1", "proposal-b seed 2 fold_1", "proposal-c seed 2 fold_1"]
    labels += ["baseline seed 2 fold_1", "finalist-a seed 2 fold_1", "finalist-a seed 22 fold_1"]
    notes = tuple(TrialNote(f"t{number}", label, 100) for number, label in enumerate(labels))
    write_launch(settings.storage, replace(NOTE, study="asked", trials=notes))
    baseline_is_done(search, settings)
    for ended, name in (("t0", "result.json"), ("t1", "pruned.json"), ("t4", "result.json")):
        folder = settings.storage / "trials" / ended
        folder.mkdir(parents=True)
        (folder / name).write_text("{}")
    plan = plan_study(search, settings)
    assert (plan.n_finished, plan.n_left) == (2 + 2, 17), "a proposal that was pruned has ended"
    assert plan.rows[2].n_left == 2
    row = {row.name: row.trial_s for row in plan.rows}
    most = 10 * row["largest proposal"] + 2 * row["baseline"] + 5 * row["largest finalist"]
    assert plan.hours == pytest.approx(most / 3600)


def test_a_finalist_that_is_its_own_proposal_is_not_trained_again(tmp_path: Path) -> None:
    """Without a patch, of the two finalists' three seeds the search's own is trained already."""
    make_store(tmp_path / "store", Recipe(window_bp=200))
    baseline = "kind: search\nbaseline: {data.window_bp: 200, model.d_model: 16, training.n_steps: 100}\n"
    equal = FINALISTS.replace(", patch: {training.n_steps: 200}", "")
    text = changed(SEARCH, ("  n_trials: 12\n", equal), ("kind: search\n", baseline))
    (tmp_path / "asked.yaml").write_text(text)
    study = load_study(tmp_path / "asked.yaml")
    assert all(check.ok for check in check_study(study, check_settings(tmp_path)))
    settings = PlanSettings(tmp_path / "store", tmp_path / "results")
    plan = plan_study(study, settings)
    row = {row.name: row.trial_s for row in plan.rows}
    assert (plan.n_trials, plan.n_left) == (21, 21)
    most = 12 * row["largest proposal"] + 3 * row["baseline"] + 4 * row["largest finalist"]
    assert plan.hours == pytest.approx(most / 3600)
    # All proposals have ended, and of the baseline one seed was trained for another study.
    baseline_is_done(study, settings)
    notes = tuple(TrialNote(f"t{number}", f"proposal-{number} seed 2 fold_1", 100) for number in range(12))
    write_launch(settings.storage, replace(NOTE, study="asked", trials=notes))
    for note in notes:
        (settings.storage / "trials" / note.trial_id).mkdir()
        (settings.storage / "trials" / note.trial_id / "result.json").write_text("{}")
    plan = plan_study(study, settings)
    row = {row.name: row.trial_s for row in plan.rows}
    assert (plan.n_finished, plan.n_left) == (12 + 1 + 2, 2 + 4)
    assert plan.hours == pytest.approx((2 * row["baseline"] + 4 * row["largest finalist"]) / 3600)


def test_an_evaluation_costs_its_genes_and_no_training(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=200))
    small = "  model.d_model: 16\n  data.window_bp: 200\n  training.n_steps: 100\n"
    cut = ("evaluation.window_bp: 500", "evaluation.window_bp: 100")
    models = ("models:\n", f"baseline:\n{small}models:\n")
    (tmp_path / "asked.yaml").write_text(changed(EVALUATION, cut, models))
    study = load_study(tmp_path / "asked.yaml")
    assert all(check.ok for check in check_study(study, check_settings(tmp_path)))
    settings = PlanSettings(tmp_path / "store", tmp_path / "results")
    plan = plan_study(study, settings)
    row = {row.name: row.trial_s for row in plan.rows}
    assert row["n0__intact"] == pytest.approx(100 * 0.1 + 606 * 0.001)
    assert row["n2__intact"] == pytest.approx(100 * 0.3 + 606 * 0.001)
    evaluations = [name for name in row if not name.endswith("__intact")]
    assert len(evaluations) == 5
    assert [name for name in evaluations if name.endswith("__cut")] == ["n2__cut"]
    for name in evaluations:
        # Six genes of validation and six of test, in the part of the window that is left.
        assert row[name] == pytest.approx(12 * 0.001 * (0.5 if name.endswith("__cut") else 1)), name
    assert plan.n_evaluations == 2 * 5
    trained = row["n0__intact"] + row["n2__intact"]
    assert plan.hours == pytest.approx(2 * (trained + 4.5 * 12 * 0.001) / 3600)
    costs = study_costs(study, prism_ray.store.open(settings.store), settings)
    config = {trial.arm: trial.config for trial in expand(study)}
    a_gene = plain_multiply_adds(config["n2__intact"].model, 200)
    trained = 100 * step_multiply_adds(config["n2__intact"]) + 606 * a_gene
    assert costs.trial_multiply_adds(config["n2__intact"]) == trained
    assert costs.trial_multiply_adds(config["n2__cut"]) == 12 * a_gene // 2


def test_what_an_evaluation_of_another_cell_type_reads_is_planned(tmp_path: Path) -> None:
    """To the byte, with the columns that name genes: models are trained on one cell type, and read the other's too."""
    make_store(tmp_path / "store", Recipe(window_bp=200))
    cut = ("evaluation.window_bp: 500", "evaluation.cell_type: GM12878")
    small = "  model.d_model: 16\n  data.window_bp: 200\n  training.n_steps: 100\n"
    text = changed(EVALUATION, cut, ("evaluation.window_bp]", "evaluation.cell_type]"))
    (tmp_path / "asked.yaml").write_text(changed(text, ("models:\n", f"baseline:\n{small}models:\n")))
    plan = plan_study(load_study(tmp_path / "asked.yaml"), PlanSettings(tmp_path / "store", tmp_path / "results"))
    read = {}
    for cell_type in ("K562", "GM12878"):
        before = bytes_read()
        read_projection(tmp_path / "store", DataConfig(cell_type=cell_type, window_bp=200))
        read[cell_type] = bytes_read() - before
    assert plan.read_bytes == sum(read.values())
    assert {row.name: row.read_bytes for row in plan.rows if row.name.startswith("n2__")} == {
        **dict.fromkeys(("n2__intact", "n2__no_hic", "n2__mean_hic"), read["K562"]),
        "n2__cut": read["GM12878"],
    }
    assert plan.all_bytes == 2 * plan.largest_bytes


def test_the_memory_of_a_trial_is_that_of_the_largest_wherever_it_stands(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=200))
    last = ("      model.n_states: 4", "      model.n_states: 1")
    (tmp_path / "asked.yaml").write_text(changed(ABLATION, SMALL, last))
    study = load_study(tmp_path / "asked.yaml")
    assert all(check.ok for check in check_study(study, check_settings(tmp_path)))
    plan = plan_study(study, PlanSettings(tmp_path / "store", tmp_path / "results"))
    assert [row.source for row in plan.rows] == ["probe", "probe", "between"]
    assert plan.peak_bytes == 2**28


def test_a_plan_says_at_which_cap_of_the_budget_a_launch_ends(study: Study, tmp_path: Path) -> None:
    assert all(check.ok for check in check_study(study, check_settings(tmp_path)))
    settings = PlanSettings(tmp_path / "store", tmp_path / "results", max_concurrent=2)
    hours = (plan_study(study, settings).wall_s or 0.0) / 3600

    def warnings(**caps: float) -> tuple[str, ...]:
        return plan_study(replace(study, budget=Budget(**caps)), settings).warnings

    assert warnings(wall_hours=1.01 * hours, gpu_hours=1e-6) == (), "no GPU is held"
    (said,) = warnings(wall_hours=0.99 * hours)
    assert said.startswith(f"budget.wall_hours is {0.99 * hours:g}, what is left takes {hours:.3g}: ")
    plan = plan_study(study, settings)
    on_gpus = replace(plan, unit="GPU-hours", hours=3.0, hours_least=1.0, budget={"gpu_hours": 2.0})
    assert on_gpus.warnings == ("budget.gpu_hours is 2, what is left takes at most 3: a launch ends there, resumable",)


class AskedRoom(Exception):
    """Stops a launch once its nodes are asked for room."""


@dataclass(frozen=True)
class AsksForRoom(InProcessBackend):
    """Keeps what room a launch asks its nodes for, and starts nothing."""

    asked: list[int] = field(default_factory=list)

    def check_nodes(self, storage: Path, store: StorePlace, room: Room) -> str:
        self.asked.append(room.storage_bytes)
        raise AskedRoom


@pytest.mark.parametrize(("text", "inside"), [(ABLATION, True), (EVALUATION, False), (SEARCH, True)])
def test_a_plan_says_the_disk_that_its_launch_asks_for(text: str, inside: bool, tmp_path: Path) -> None:
    """Twice of what trials leave where the tracker keeps its copies in the workspace."""
    make_store(tmp_path / "store", Recipe(window_bp=2000))
    (tmp_path / "asked.yaml").write_text(text)
    study, backend = load_study(tmp_path / "asked.yaml"), AsksForRoom()
    launch = replace(check_settings(tmp_path).launch, backend=backend, max_concurrent=1)
    tracked = {True: launch.storage, False: tmp_path / "elsewhere"}
    tracked[inside].mkdir()
    launch = replace(launch, tracking_uri=fresh_store(tracked[inside]))
    with pytest.raises(AskedRoom):
        run_study(study, launch, Silent())
    planned = plan_study(study, launch.plan()).storage_bytes
    assert [planned] == backend.asked
    other = replace(launch, tracking_uri=f"sqlite:///{tracked[not inside]}/mlflow.db")
    assert (plan_study(study, other.plan()).storage_bytes < planned) == inside
    # `check` asks for all trials, whichever are finished.
    with pytest.raises(AskedRoom):
        list(check_study(study, CheckSettings(launch, measure=recorded_step)))
    assert backend.asked == [planned, planned]


def test_a_launch_looks_up_once_what_its_trials_cost(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*args: Any) -> PlanCosts:
        made.append(PlanCosts(*args))
        return made[-1]

    monkeypatch.setattr("prism_ray.distributed.plan.PlanCosts", counted)
    (tmp_path / "results").mkdir()
    launch = replace(check_settings(tmp_path).launch, backend=AsksForRoom(), tracking_uri=fresh_store(tmp_path))
    with pytest.raises(AskedRoom):
        run_study(study, launch, Silent())
    assert len(made) == 1


def test_a_plan_of_what_is_finished_needs_no_disk(study: Study, tmp_path: Path) -> None:
    digest = prism_ray.store.open(tmp_path / "store").digest
    settings = PlanSettings(tmp_path / "store", tmp_path / "results")
    for trial in expand(study):
        recorded(settings.storage, trial.trial_id(digest), digest, trial.config, train_s=1.0)
    assert plan_study(study, settings).storage_bytes == 0


GIB = 2**30


def on_gpu(config: RunConfig, store: Path, each: TrialResources) -> MeasuredStep:
    """A recorded step of a trial that had all of a GPU; the largest takes 20 GiB."""
    assert each.gpus_per_worker == 1.0
    return MeasuredStep(0.1, 0.001, 20 * GIB if config.model.n_states == 4 else GIB, 80 * GIB, "NVIDIA H100")


def test_trials_share_a_gpu_by_what_the_largest_was_measured_to_take(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "no_cuda", lambda: None)
    argv = ["plan", str(study.path), "--store", str(tmp_path / "store"), "--storage", str(tmp_path / "results")]
    argv += ["--gpus-per-worker", "auto"]
    assert main(argv) == 2
    assert "no step of the largest trial is in" in capsys.readouterr().err
    launch = replace(check_settings(tmp_path).launch, resources=TrialResources(gpus_per_worker=1.0))
    checks = list(check_study(study, CheckSettings(launch, pack=True, measure=on_gpu)))
    said = "the largest took 20 GiB of the 80 GiB of NVIDIA H100, and gets 24.6 GiB with its margin"
    assert [check.faults for check in checks if not check.ok] == []
    assert (checks[-1].name, checks[-1].detail) == ("trials a GPU", f"3 trials a GPU: {said}")

    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert f"packing    3 trials a GPU: {said}" in shown
    assert "at once    3 trials, on one GPU" in shown
    assert "at most" in shown
    assert main([*argv, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    # Six trials of 10.6 s: one after another where sharing gains nothing, or all three of a GPU as if alone.
    assert written["hours"] == pytest.approx(3 * written["hours_least"])
    assert written["hours"] == pytest.approx(6 * 10.606 / 3600)
    assert written["packing"] == said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--workers", "2"], "2 workers a trial, and NCCL wants a GPU of its own for each"),
        ([], "no step of the largest trial is in"),
    ],
)
def test_a_part_of_a_gpu_that_nothing_says_is_refused_before_anything_starts(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    for command in ("run", "plan"):
        argv = [command, str(study.path), "--store", str(tmp_path / "store"), "--storage", str(tmp_path / "results")]
        assert main([*argv, "--gpus-per-worker", "auto", *flags]) == 2
        refused = capsys.readouterr().err
        assert f"--gpus-per-worker auto: {said}" in refused
        assert not (tmp_path / "results").exists()
    assert main(["check", *argv[1:], "--gpus-per-worker", "auto"]) == 2
    # Of a cluster that this process has joined, or of this machine where it has joined none.
    no_gpu = (
        "a run needs 1 GPUs (1 workers x 1), there are 0",
        "--gpus-per-worker: 1 is asked for, and there is no CUDA here",
    )
    told = capsys.readouterr().out
    assert any(text in told for text in no_gpu), told


def test_plan_prints_a_table_or_json_and_writes_nothing(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["plan", str(study.path), "--store", str(tmp_path / "store"), "--storage", str(tmp_path / "results")]
    assert main(argv) == 0
    said = capsys.readouterr().out
    for part in (
        "trials     6: 6 left, 0 finished",
        f"models, predictions and checkpoints in {tmp_path / 'results'}",
        "not measured: `prism-ray check`",
        "n4",
        "2/2",
    ):
        assert part in said
    assert "each different projection read once a node" in said
    assert main([*argv, "--loading", "stream"]) == 0
    store, streamed = prism_ray.store.open(tmp_path / "store"), capsys.readouterr().out
    n_bytes = sum(StreamReads(store, 1).trial_bytes(trial.config) for trial in expand(study))
    assert f"data       {size_text(n_bytes)} of {tmp_path / 'store'} in all, read by each trial for itself" in streamed
    assert main([*argv, "--json", "--set", "model.n_layers=2"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["n_left"], written["overrides"], len(written["rows"])) == (6, "model.n_layers = 2", 3)
    assert not (tmp_path / "results").exists()
