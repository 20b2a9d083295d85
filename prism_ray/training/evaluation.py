"""A trained model evaluated on other input than it was trained with: nothing is trained, nothing is chosen.

N test genes, D channels, n background states.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prism_ray.config import RunConfig
from prism_ray.model import Prism, check_names
from prism_ray.splits import Split
from prism_ray.training.changed_input import without_inputs
from prism_ray.training.collectives import count_hosts
from prism_ray.training.evaluate import evaluate_rows, learned_state_rows
from prism_ray.training.reporter import Placement
from prism_ray.training.sources import GeneReader


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation leaves.

    Attributes:
        metrics: `val/...` and `test/...` of the model on the changed input.
        test_rows: (N,) row numbers of the test genes.
        test_prediction: (N,) float32 prediction of each of them.
        test_states: (N, D, n) float32 weights a_i that the changed input gives them; None where none were learned.
        evaluate_s: seconds that it took, the mean over training genes included.
        n_hosts: machines that its workers were on.
    """

    metrics: dict[str, float]
    test_rows: NDArray[np.int64]
    test_prediction: NDArray[np.float32]
    test_states: NDArray[np.float32] | None
    evaluate_s: float
    n_hosts: int


def evaluate_trained(
    model: Prism, config: RunConfig, reader: GeneReader, split: Split, placement: Placement
) -> EvaluationResult:
    """Metrics of a trained model on the validation and test genes, with the input that the run's settings ask for.

    Args:
        model: trained by the run of `config.trained()`, on the placement's device.
        config: whose `evaluation` section says what is changed.
        reader: of the genes of `config.evaluated_data()`.
        split: of these genes.
        placement: of this worker; all workers get the same result.

    Raises:
        InputError: genes with other signals or scalars than the model was trained on.
        ConfigError: a signal or scalar is to be taken away that the genes do not have.
    """
    begun = time.perf_counter()
    genes = reader.genes
    if model.trained_on is not None:
        check_names(model.trained_on, genes.signal_names, genes.scalar_names)
    changed = without_inputs(reader, config, split, placement)
    path = config.model.predict_with
    metrics, _ = evaluate_rows(model, changed, split.validation, placement, path, "val")
    tested, prediction = evaluate_rows(model, changed, split.test, placement, path, "test")
    states = learned_state_rows(model, changed, split.test, placement)
    took_s = time.perf_counter() - begun
    return EvaluationResult({**metrics, **tested}, split.test, prediction, states, took_s, count_hosts(placement))
