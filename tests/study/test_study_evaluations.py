"""Evaluation studies: models x changes of their input, from a file of its own or from another study's arms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from prism_ray.errors import ConfigError
from prism_ray.study.designs import expand
from prism_ray.study.load import load_study
from prism_ray.study.spec import Study
from prism_ray.study.store_check import check_against_store
from tests.study.texts import ABLATION, EVALUATION, OF_STUDY, changed


def own(folder: Path, *changes: tuple[str, str], smoke: bool = False) -> Study:
    (folder / "own.yaml").write_text(changed(EVALUATION, *changes))
    return load_study(folder / "own.yaml", smoke=smoke)


def of_study(
    folder: Path, *changes: tuple[str, str], smoke: bool = False, base: str = ABLATION, **more: object
) -> Study:
    (folder / "asked.yaml").write_text(base)
    (folder / "after.yaml").write_text(changed(OF_STUDY, *changes))
    return load_study(folder / "after.yaml", smoke=smoke, **more)  # type: ignore[arg-type]


class TestOwnModels:
    def test_arms_are_models_times_changes_and_each_has_its_models_reference(self, tmp_path: Path) -> None:
        study = own(tmp_path)
        assert {arm.name: arm.reference for arm in study.arms} == {
            "n0__intact": None,
            "n0__no_hic": "n0__intact",
            "n0__mean_hic": "n0__intact",
            "n2__intact": None,
            "n2__no_hic": "n2__intact",
            "n2__mean_hic": "n2__intact",
            "n2__cut": "n2__intact",
        }
        assert study.baseline_arm == "n0__intact"
        assert (study.kind, study.curve, study.n_trials) == ("evaluation", None, 14)

    def test_an_arm_is_its_model_but_for_its_evaluation(self, tmp_path: Path) -> None:
        study = own(tmp_path)
        for arm in study.arms:
            intact = study.arm(arm.reference or arm.name)
            assert arm.config.trained() == intact.config
            assert arm.config.is_evaluation == (arm.reference is not None)
        assert study.arm("n2__mean_hic").config.evaluation.remove_by == "mean"
        assert study.arm("n2__cut").config.evaluation.window_bp == 500
        assert study.arm("n0__no_hic").config.model.n_states == 0

    def test_smaller(self, tmp_path: Path) -> None:
        study = own(tmp_path, smoke=True)
        assert [arm.name for arm in study.arms] == ["n0__intact", "n0__no_hic", "n2__intact", "n2__no_hic", "n2__cut"]
        assert {arm.config.training.n_steps for arm in study.arms} == {10}
        assert (study.name, study.n_trials) == ("own-smoke", 5)

    def test_the_trials_of_the_models_are_among_those_of_the_study(self, tmp_path: Path) -> None:
        trials = expand(own(tmp_path))
        trained = {trial.trial_id("data") for trial in trials if not trial.config.is_evaluation}
        assert len(trained) == 4
        for trial in trials:
            assert trial.fingerprint == trial.config.fingerprint()
            assert type(trial)(trial.study, "", trial.config.trained()).trial_id("data") in trained

    def test_no_arm_evaluates_on_the_cell_type_that_it_is_trained_on(self, tmp_path: Path) -> None:
        study = own(
            tmp_path,
            ("cell_types: [K562]", "cell_types: [K562, GM12878]"),
            ("patch: {evaluation.window_bp: 500}", "patch: {evaluation.cell_type: GM12878}"),
            ("evaluation.window_bp]", "evaluation.cell_type]"),
        )
        found = {(trial.arm, trial.cell_type) for trial in expand(study)}
        assert ("n2__cut", "K562") in found
        assert ("n2__cut", "GM12878") not in found
        assert ("n2__intact", "GM12878") in found
        assert len(expand(study)) == study.n_trials == 2 * (2 * 6 + 1)
        for trial in expand(study):
            assert trial.config.evaluated_data().cell_type == ("GM12878" if trial.arm == "n2__cut" else trial.cell_type)


class TestModelsOfAnotherStudy:
    def test_its_arms_seeds_and_scale_are_taken_over(self, tmp_path: Path) -> None:
        base, study = load(tmp_path), of_study(tmp_path)
        assert [arm.name for arm in study.arms] == ["n0__intact", "n0__no_hic", "n2__intact", "n2__no_hic"]
        assert study.arm("n2__intact").config == base.arm("n2").config
        assert (study.seeds, study.folds, study.cell_types) == (base.seeds, base.folds, base.cell_types)
        assert (study.objective, study.report_metric) == (base.objective, base.report_metric)
        assert study.baseline_arm == "n0__intact"
        assert study.changes == ("model.n_states", "evaluation.signals")
        assert study.baseline == base.baseline

    def test_its_trials_are_those_of_the_other_study(self, tmp_path: Path) -> None:
        for smoke in (False, True):
            base, study = load(tmp_path, smoke=smoke), of_study(tmp_path, smoke=smoke)
            theirs = {trial.trial_id("data") for trial in expand(base) if trial.arm in ("n0", "n2")}
            ours = {trial.trial_id("data") for trial in expand(study) if not trial.config.is_evaluation}
            assert ours == theirs

    def test_smaller_as_the_other_study_is(self, tmp_path: Path) -> None:
        study = of_study(tmp_path, (", arms: [n0, n2]", ""), smoke=True)
        assert [arm.name for arm in study.arms] == ["n0__intact", "n0__no_hic", "n2__intact", "n2__no_hic"]
        assert study.name == "after-smoke"
        assert study.seeds == (2,)
        assert len(of_study(tmp_path, (", arms: [n0, n2]", "")).arms) == 6

    def test_what_the_file_says_itself_counts(self, tmp_path: Path) -> None:
        mine = ("claim: nothing", "claim: nothing\nseeds: [7]\nbaseline_arm: n2\nsmoke: {seeds: [8], models: [n2]}")
        study = of_study(tmp_path, mine)
        assert (study.seeds, study.baseline_arm) == ((7,), "n2__intact")
        small = of_study(tmp_path, mine, smoke=True)
        assert (small.seeds, [arm.name for arm in small.arms]) == ((8,), ["n2__intact", "n2__no_hic"])
        assert small.arms[0].config.training.n_steps == 10

    def test_claims_are_of_models_and_their_changed_inputs(self, tmp_path: Path) -> None:
        claims = "claim: a\nexpect: [{arm: n2__no_hic, to_be: worse}, {arm: n2__intact, to_be: better}]"
        study = of_study(tmp_path, ("claim: nothing", claims))
        assert [(one.arm, one.than) for one in study.expectations] == [
            ("n2__no_hic", "n2__intact"),
            ("n2__intact", "n0__intact"),
        ]
        only = "\nsmoke: {models: [n0]}"
        small = of_study(tmp_path, ("claim: nothing", claims + only), smoke=True)
        assert small.expectations == ()
        with pytest.raises(ConfigError, match=r"'n2' is not an arm.*n2__intact"):
            of_study(tmp_path, ("claim: nothing", "claim: a\nexpect: [{arm: n2, to_be: worse}]"))

    def test_overrides_are_those_of_the_other_study(self, tmp_path: Path) -> None:
        study = of_study(tmp_path, overrides={"training.n_steps": 77})
        assert {arm.config.training.n_steps for arm in study.arms} == {77}
        assert study.overrides == {"training.n_steps": 77}
        assert study.name.startswith("after-set-")

    def test_a_study_is_found_by_its_name_beside_the_file_or_in_the_folders(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "after.yaml").write_text(changed(OF_STUDY, ("study: asked", "study: confounder_count")))
        study = load_study("after.yaml")
        assert study.seeds == (2, 22, 222, 2222, 22222)


def load(folder: Path, *, smoke: bool = False) -> Study:
    (folder / "asked.yaml").write_text(ABLATION)
    return load_study(folder / "asked.yaml", smoke=smoke)


MODELS = "models: {study: asked, arms: [n0, n2]}"
STUDY_FAULTS: list[tuple[str, str, str]] = [
    (MODELS, "models: {study: askd}", "after.yaml:5: models.study: .*askd: is neither a file nor the name of a study"),
    (MODELS, "models: {study: after}", "after.yaml:5: models.study: after is a study of kind evaluation; name one"),
    (MODELS, "models: {study: asked, arms: [n0, n3]}", "after.yaml:5: models.arms: 'n3' is not an arm of asked"),
    (MODELS, "models: {study: asked, arms: [n2]}", "baseline_arm: is missing; name the model.*n2"),
    (MODELS, "models: {study: asked, arms: []}", "after.yaml:5: models.arms: .*is empty"),
    (MODELS, "models: {study: asked, arm: [n0]}", "after.yaml:5: models.arm: is not a known field.*'arms'"),
    (MODELS, "models: asked", "after.yaml:5: models: 'asked': input should be a mapping"),
    ("claim: nothing", "claim: a\nbaseline: {model.d_model: 8}", "baseline: has no effect: models are those of asked"),
    ("claim: nothing", "claim: a\nsmoke: {patch: {model.n_states: 1}}", "is what the study asked varies"),
    ("claim: nothing", "claim: a\nsmoke: {models: [n4]}", "smoke.models: 'n4' is not a model"),
    ("claim: nothing", "claim: a\nsmoke: {models: [n2]}", "smoke.models: leaves out the baseline's model n0"),
]


@pytest.mark.parametrize(("old", "new", "message"), STUDY_FAULTS, ids=[case[2][:50] for case in STUDY_FAULTS])
def test_faults_of_another_studys_models(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        of_study(tmp_path, (old, new))


def test_faults_of_the_other_study_are_said_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        of_study(tmp_path, ("reason: away", "reason: ''"), base=ABLATION.replace("model.d_model", "model.d_modle"))
    first, second = refused.value.faults
    assert first.where.startswith(
        f"{tmp_path}/after.yaml:5: models.study: {tmp_path}/asked.yaml:6: baseline.model.d_modle"
    )
    assert second.where == f"{tmp_path}/after.yaml:8: arms.no_hic.reason"


FAULTS: dict[str, list[tuple[str, str]]] = {
    "models:\n  n0": [
        ("model:\n  n0", "own.yaml:5: model: is not a known field.*Did you mean 'models'"),
        ("models:\n  n__0", "own.yaml:6: models.n__0: 'n__0' is no usable name of a model"),
        ("models:\n  n/0", "own.yaml:6: models.n/0: 'n/0' is no usable name of a model"),
    ],
    "n0: {patch: {model.n_states: 0}, reason: plain}": [
        ("n0: {patch: {model.n_states: 0}}", "own.yaml:6: models.n0.reason: is missing"),
        ("n0: {patch: {model.n_state: 0}, reason: a}", "own.yaml:6: models.n0.patch.model.n_state: .*'model.n_states'"),
        ("n0: {patch: {model.n_states: 99}, reason: a}", "own.yaml:6: models.n0.patch.model.n_states: 99"),
        (
            "n0: {patch: {loss.beta: 0.0}, reason: a}",
            "own.yaml:6: models.n0.patch.loss.beta: n0 changes a setting that",
        ),
        (
            "n0: {patch: {model.n_states: 2}, reason: a}",
            "models.n2.patch: arm n2__intact is the same run as .*n0__intact",
        ),
        ("n0: {patch: {evaluation.signals: [hic]}, reason: a}", "models.n0.patch.evaluation.signals: .*in the arms of"),
        ("n0: {patch: {model.n_states: 0}, reason: plain, models: [n2]}", "models.n0.models: is not a known field"),
    ],
    "baseline_arm: n0\n": [
        ("", "baseline_arm: is missing; name the model that others are compared with; use one of n0, n2"),
        ("baseline_arm: n1\n", "own.yaml:8: baseline_arm: 'n1' is not a model"),
        (
            "baseline_arm: n0\ncurve: evaluation.window_bp\n",
            "own.yaml:9: curve: has no effect in a study of kind evalu",
        ),
        ("baseline_arm: n0\ndesign: {kind: add_one}\n", "own.yaml:9: design: has no effect in a study of kind evalua"),
        ("baseline_arm: n0\nsearch: {n_trials: 2, space: {loss.beta: {uniform: [0, 1]}}}\n", "own.yaml:9: search: has"),
    ],
    "changes: [model.n_states, ": [
        ("changes: [", "own.yaml:6: models.n0.patch.model.n_states: n0 changes a setting that is not among `changes`"),
        ("changes: [model.n_states, loss.alpha, ", "own.yaml:9: changes: nothing changes loss.alpha"),
        ("changes: [model.n_states, seed, ", "own.yaml:9: changes: seed is set for every trial"),
        ("changes: [model.n_states, evaluation.signal, ", "own.yaml:9: changes: 'evaluation.signal' is not a setting"),
    ],
    "changes: [model.n_states, evaluation.signals, evaluation.remove_by, evaluation.window_bp]\n": [
        ("", "changes: is missing; list the settings that models and arms mean to change"),
    ],
    "no_hic: {patch: {evaluation.signals: [hic]}": [
        ("intact: {patch: {evaluation.signals: [hic]}", "own.yaml:11: arms.intact: is the arm that every model has"),
        ("no__hic: {patch: {evaluation.signals: [hic]}", "own.yaml:11: arms.no__hic: 'no__hic' is no usable name"),
        ("no_hic: {patch: {}", "own.yaml:11: arms.no_hic.patch: arm no_hic changes nothing"),
        (
            "no_hic: {patch: {evaluation.signals: [atac]}",
            "arms.no_hic.patch.evaluation: model n0: signals: the model does",
        ),
        ("no_hic: {patch: {evaluation.signals: hic}", "own.yaml:11: arms.no_hic.patch.evaluation.signals: 'hic'"),
        ("no_hic: {patch: {evaluation.signal: [hic]}", "arms.no_hic.patch.evaluation.signal: .*'evaluation.signals'"),
        (
            "no_hic: {patch: {evaluation.scalars: [gc]}",
            "arms.no_hic.patch.evaluation.scalars: no_hic changes a setting",
        ),
        (
            "no_hic: {patch: {data.window_bp: 500}",
            "arms.no_hic.patch.data.window_bp: .*setting of the model's training",
        ),
        ("no_hic: {patch: {evaluation.remove_by: mean}", "model n0: remove_by: mean has no effect where neither"),
        ("no_hic: {patch: {evaluation.signals: [hic], evaluation.remove_by: mean}", "n0__mean_hic is the same run as"),
        (
            "no_hic: {patch: {evaluation.cell_type: K562}",
            "evaluation.cell_type: is the only cell type that the study's",
        ),
    ],
    "models: [n2]": [
        ("models: [n1]", "own.yaml:17: arms.cut.models: 'n1' is not a model"),
        ("models: []", "own.yaml:17: arms.cut.models: .*is empty"),
    ],
    "evaluation.window_bp: 500}": [
        ("evaluation.window_bp: 2000}", "model n2: window_bp 2000 does not cut a window of 2000 bp"),
        ("evaluation.window_bp: 501}", "own.yaml:16: arms.cut.patch.evaluation.window_bp: .*odd"),
    ],
    "training.n_steps: 10": [
        ("model.n_states: 1", "own.yaml:25: smoke.patch.model.n_states: is what the study varies"),
        ("evaluation.window_bp: 100", "own.yaml:25: smoke.patch.evaluation.window_bp"),
    ],
    "arms: [no_hic, cut]": [
        ("arms: [no_hic, cutt]", "own.yaml:26: smoke.arms: 'cutt' is not an arm.*'cut'"),
        ("models: [n2]", "own.yaml:26: smoke.models: leaves out the baseline's model n0"),
        ("search: {n_trials: 2}", "own.yaml:26: smoke.search: has no effect in a study of kind evaluation"),
    ],
}
CASES = [(old, new, message) for old, cases in FAULTS.items() for new, message in cases]


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[2][:50] for case in CASES])
def test_each_fault_is_refused_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own(tmp_path, (old, new))


def test_all_faults_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        own(
            tmp_path,
            ("n0: {patch: {model.n_states: 0}", "n0: {patch: {model.d_model: 0}"),
            ("no_hic: {patch: {evaluation.signals: [hic]}", "no_hic: {patch: {evaluation.signals: [atac]}"),
            ("models: [n2]", "models: [n9]"),
            ("baseline_arm: n0", "baseline_arm: n8"),
            ("seeds: [2, 22]", "seeds: [2, 2]"),
        )
    assert {fault.where.split(": ")[1] for fault in refused.value.faults} == {
        "models.n0.patch.model.d_model",
        "arms.no_hic.patch.evaluation",
        "arms.cut.models",
        "baseline_arm",
        "seeds",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "kind: ablation",
            "kind: ablation\nmodels: {study: asked}",
            "asked.yaml:5: models: has no effect in a study of",
        ),
        (
            "model.d_model: 16",
            "evaluation.window_bp: 500",
            "asked.yaml:6: baseline.evaluation.window_bp: .*kind evaluation",
        ),
        ("reason: plain", "reason: plain, models: [n0]", "asked.yaml:10: arms.n0.models: has no effect in a study of"),
        (
            "{training.n_steps: 10}",
            "{training.n_steps: 10}\n  models: [n0]",
            "smoke.models: has no effect in a study of",
        ),
        (
            "[model.n_states]",
            "[evaluation.signals]",
            "changes: evaluation.signals changes what a model that is trained",
        ),
    ],
)
def test_an_ablation_has_nothing_of_an_evaluation(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "asked.yaml").write_text(changed(ABLATION, (old, new)))
    with pytest.raises(ConfigError, match=message):
        load_study(tmp_path / "asked.yaml")


class TestAgainstAStore:
    def store(self, **changes: object) -> SimpleNamespace:
        given = {
            "signals": ("h3k27ac", "dnase", "hic"),
            "window_bp": 8000,
            "cell_types": ("K562", "GM12878"),
            "folds": SimpleNamespace(names=("fold_1",)),
            "has_sequence": True,
            "scalar_names": ("gc", "promoter_activity"),
            "signals_of": lambda cell_type: (
                ("h3k27ac", "dnase", "hic") if cell_type == "K562" else ("h3k27ac", "dnase")
            ),
        }
        return SimpleNamespace(**{**given, **changes})

    def other(self, folder: Path, cell_type: str, scalar: str) -> Study:
        patch = f"{{evaluation.cell_type: {cell_type}, evaluation.scalars: [{scalar}]}}"
        return own(
            folder,
            ("patch: {evaluation.window_bp: 500}", f"patch: {patch}"),
            ("evaluation.window_bp]", "evaluation.cell_type, evaluation.scalars]"),
        )

    def test_what_fits_passes(self, tmp_path: Path) -> None:
        check_against_store(own(tmp_path), self.store())

    def test_what_an_evaluation_reads_is_checked(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as refused:
            check_against_store(self.other(tmp_path, "GM1287", "promoter_activty"), self.store())
        assert [str(fault).split("own.yaml: ")[1] for fault in refused.value.faults] == [
            "arm n2__cut: evaluation.cell_type: 'GM1287' is not in the store; use one of GM12878, K562. "
            "Did you mean 'GM12878'?",
            "arm n2__cut: evaluation.scalars: the scalar 'promoter_activty' is not in the store; use one of gc, "
            "promoter_activity. Did you mean 'promoter_activity'?",
        ]

    def test_a_signal_that_the_other_cell_type_lacks(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"arm n2__cut: data\.signals: the signal 'hic' is not in the store for GM12878"
        ):
            check_against_store(self.other(tmp_path, "GM12878", "gc"), self.store())
