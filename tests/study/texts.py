"""Two study files that tests change line by line: their line numbers are part of what is tested."""

ABLATION = """\
question: How many?
claim: two
source: paper
kind: ablation
baseline:
  model.d_model: 16
baseline_arm: n0
changes: [model.n_states]
arms:
  n0: {patch: {model.n_states: 0}, reason: plain}
  n2: {patch: {model.n_states: 2}, reason: published}
  n4:
    patch:
      model.n_states: 4
    reason: more
curve: model.n_states
seeds: [2, 22]
folds: [fold_1]
cell_types: [K562]
objective: {metric: val/mse, direction: minimize}
report_metric: test/mse
smoke:
  patch: {training.n_steps: 10}
  arms: [n0, n2]
  seeds: [2]
"""

SEARCH = """\
question: Which?
claim: these
source: paper
kind: search
seeds: [2]
folds: [fold_1]
cell_types: [K562]
objective: {metric: val/mse, direction: minimize}
report_metric: test/mse
search:
  n_trials: 12
  space:
    model.n_states: {int_range: [0, 8]}
    data.signals: {subset: {of: [h3k27ac, dnase], min_size: 1}}
    loss.alpha: {uniform: [0, 2], when: {model.n_states: {at_least: 1}}}
smoke:
  search:
    n_trials: 3
    space:
      model.n_states: {int_range: [0, 2]}
"""

EVALUATION = """\
question: Without what?
claim: nothing
source: paper
kind: evaluation
models:
  n0: {patch: {model.n_states: 0}, reason: plain}
  n2: {patch: {model.n_states: 2}, reason: published}
baseline_arm: n0
changes: [model.n_states, evaluation.signals, evaluation.remove_by, evaluation.window_bp]
arms:
  no_hic: {patch: {evaluation.signals: [hic]}, reason: away}
  mean_hic:
    patch: {evaluation.signals: [hic], evaluation.remove_by: mean}
    reason: its mean
  cut:
    patch: {evaluation.window_bp: 500}
    models: [n2]
    reason: short
seeds: [2, 22]
folds: [fold_1]
cell_types: [K562]
objective: {metric: val/mse, direction: minimize}
report_metric: test/mse
smoke:
  patch: {training.n_steps: 10}
  arms: [no_hic, cut]
  seeds: [2]
"""

OF_STUDY = """\
question: Without what?
claim: nothing
source: paper
kind: evaluation
models: {study: asked, arms: [n0, n2]}
changes: [evaluation.signals]
arms:
  no_hic: {patch: {evaluation.signals: [hic]}, reason: away}
"""
"""Evaluates models of the study `ABLATION`, in `asked.yaml` beside it."""


def changed(text: str, *changes: tuple[str, str]) -> str:
    """`text` with each old part, which must be there once, replaced by the new one."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
