"""Trained models on changed input: what stands in place of what was taken away, by hand and by properties."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from prism_ray.config import EvaluationConfig, RunConfig
from prism_ray.errors import ConfigError, InputError
from prism_ray.metrics import regression_metrics
from prism_ray.model import Prism, TrainedOn
from prism_ray.splits import Split
from prism_ray.store import GeneArrays
from prism_ray.training.changed_input import mean_inputs, without_inputs
from prism_ray.training.evaluate import predict_rows
from prism_ray.training.evaluation import evaluate_trained
from prism_ray.training.order import shuffled_partners
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneReader, MemorySource, as_source

HERE = Placement()


def evaluating(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"evaluation": EvaluationConfig(**changes)})


def given(reader: GeneReader, rows: np.ndarray, size: int = 4) -> GeneArrays:
    """All that a model would be given for rows, in one piece."""
    parts = list(reader.chunks(rows, size))
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("gene_id", "chrom", "sequence", "signals", "scalars", "label")
    }
    return dataclasses.replace(parts[0], **joined)


def changed(config: RunConfig, arrays: GeneArrays, split: Split, **changes: Any) -> GeneReader:
    return without_inputs(as_source(arrays), evaluating(config, **changes), split, HERE)


def model_of(config: RunConfig, arrays: GeneArrays) -> Prism:
    model = Prism(config.model, as_source(arrays).genes.inputs, seed=1)
    model.trained_on = TrainedOn(signals=arrays.signal_names, scalars=arrays.scalar_names)
    return model.eval()


def test_zero_takes_away_what_is_named_and_nothing_else(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    found = given(changed(config, arrays, split, signals=("dnase",), scalars=("utr5_len",)), split.test)
    whole = arrays.take(split.test)
    assert not found.signals[:, :, 1].any()
    assert not found.scalars[:, 0].any()
    np.testing.assert_array_equal(found.signals[:, :, 0], whole.signals[:, :, 0])
    np.testing.assert_array_equal(found.scalars[:, 1], whole.scalars[:, 1])
    np.testing.assert_array_equal(found.sequence, whole.sequence)
    np.testing.assert_array_equal(found.label, whole.label)
    assert arrays.signals[:, :, 1].all()  # the arrays that all trials share are as they were


def test_the_mean_is_of_training_genes_alone(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    asked = {"signals": ("h3k27ac",), "scalars": ("cds_len",), "remove_by": "mean"}
    found = given(changed(config, arrays, split, **asked), split.validation)
    profile = arrays.signals[split.train, :, 0].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(found.signals[:, :, 0], np.tile(profile, (len(split.validation), 1)), rtol=1e-6)
    level = arrays.scalars[split.train, 1].astype(np.float64).mean()
    np.testing.assert_allclose(found.scalars[:, 1], level, rtol=1e-6)
    # Other values of the evaluated genes change nothing of it.
    signals = arrays.signals.copy()
    signals[np.concatenate([split.validation, split.test])] += 100
    other = given(changed(config, dataclasses.replace(arrays, signals=signals), split, **asked), split.validation)
    np.testing.assert_array_equal(other.signals[:, :, 0], found.signals[:, :, 0])


def test_shuffled_genes_take_all_that_is_removed_from_one_other_gene(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    reader = changed(config, arrays, split, signals=("h3k27ac", "dnase"), scalars=("utr5_len",), remove_by="shuffle")
    for rows in (split.validation, split.test):
        found = given(reader, rows)
        first = arrays.signals[rows, 0, 0].tolist()
        partner = rows[[first.index(value) for value in found.signals[:, 0, 0].tolist()]]
        assert sorted(partner) == sorted(rows)
        assert (partner != rows).any()
        np.testing.assert_array_equal(found.signals, arrays.signals[partner])
        np.testing.assert_array_equal(found.scalars[:, 0], arrays.scalars[partner, 0])
        np.testing.assert_array_equal(found.scalars[:, 1], arrays.scalars[rows, 1])
        np.testing.assert_array_equal(found.sequence, arrays.sequence[rows])  # type: ignore[index]


def test_the_permutation_is_the_seeds_and_no_worker_or_batch_changes_it(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    one = shuffled_partners(split, 60, 2)
    np.testing.assert_array_equal(one, shuffled_partners(split, 60, 2))
    assert (one != shuffled_partners(split, 60, 22)).any()
    np.testing.assert_array_equal(one[split.train], split.train)
    reader = changed(config, arrays, split, signals=("dnase",), remove_by="shuffle")
    whole = given(reader, split.test).signals
    for size in (1, 3, 100):
        np.testing.assert_array_equal(given(reader, split.test, size).signals, whole)
    halves = [given(reader, part).signals for part in (split.test[:6], split.test[6:])]
    np.testing.assert_array_equal(np.concatenate(halves), whole)


@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_workers_share_the_mean(arrays: GeneArrays, split: Split, n_workers: int, monkeypatch: Any) -> None:
    sums: list[Any] = []

    def collect(values: Any, placement: Placement) -> Any:
        sums.append(values)
        return sum(sums) if placement.rank == n_workers - 1 else values

    monkeypatch.setattr("prism_ray.training.changed_input.sum_over_workers", collect)
    columns = np.array([0]), np.array([1])
    for rank in range(n_workers):
        found = mean_inputs(as_source(arrays), split.train, *columns, Placement(rank=rank, n_workers=n_workers))
    np.testing.assert_allclose(found[0][:, 0], arrays.signals[split.train, :, 0].mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], arrays.scalars[split.train, 1].mean(), rtol=1e-4, atol=1e-6)


def test_nothing_removed_is_the_reader_itself(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    source = as_source(arrays)
    assert without_inputs(source, evaluating(config, window_bp=64), split, HERE) is source


def test_what_the_genes_do_not_have_is_refused(config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    with pytest.raises(ConfigError) as refused:
        changed(config, arrays, split, signals=("dnas",), scalars=("cds_le",))
    assert [fault.where for fault in refused.value.faults] == ["evaluation.signals", "evaluation.scalars"]
    assert "Did you mean 'dnase'?" in str(refused.value)


@pytest.mark.parametrize("path", ["plain", "adjusted"])
def test_metrics_by_hand(path: str, config: RunConfig, arrays: GeneArrays, split: Split) -> None:
    config = evaluating(
        config.model_copy(update={"model": config.model.model_copy(update={"predict_with": path})}), signals=("dnase",)
    )
    model = model_of(config, arrays)
    result = evaluate_trained(model, config, as_source(arrays), split, HERE)
    signals = arrays.signals.copy()
    signals[:, :, 1] = 0
    by_hand = dataclasses.replace(arrays, signals=signals)
    for name, rows in (("val", split.validation), ("test", split.test)):
        prediction = predict_rows(model, by_hand, rows, HERE, path)  # type: ignore[arg-type]
        expected = regression_metrics(prediction, arrays.label[rows])
        assert {key: result.metrics[f"{name}/{key}"] for key in expected} == pytest.approx(expected)
    np.testing.assert_array_equal(result.test_prediction, prediction)
    np.testing.assert_array_equal(result.test_rows, split.test)
    assert result.evaluate_s > 0
    whole = predict_rows(model, arrays, split.test, HERE, path)  # type: ignore[arg-type]
    assert not np.allclose(whole, prediction)


def test_genes_with_other_inputs_than_the_models_are_refused(
    config: RunConfig, arrays: GeneArrays, split: Split
) -> None:
    model = model_of(config, arrays)
    turned = dataclasses.replace(arrays, signal_names=arrays.signal_names[::-1])
    with pytest.raises(InputError, match="come in another order than the model was trained on"):
        evaluate_trained(model, evaluating(config, signals=("dnase",)), MemorySource(turned), split, HERE)


def test_a_cut_window_is_the_middle_of_the_window(arrays: GeneArrays) -> None:
    short = arrays.cut(32)
    assert short.window_bp == 32
    np.testing.assert_array_equal(short.signals, arrays.signals[:, 48:80])
    np.testing.assert_array_equal(short.sequence, arrays.sequence[:, 48:80])  # type: ignore[index]
    assert np.shares_memory(short.signals, arrays.signals)
    assert short.scalars is arrays.scalars
    assert arrays.cut(128).signals.shape == arrays.signals.shape
    with pytest.raises(AssertionError, match="cannot be cut to 256"):
        arrays.cut(256)
