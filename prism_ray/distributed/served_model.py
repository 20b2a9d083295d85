"""The code of a registered model: MLflow runs this file wherever the model is loaded, and nothing is unpickled."""

from __future__ import annotations

from typing import Any

import mlflow.models
import mlflow.pyfunc

from prism_ray.model import Prism, load
from prism_ray.tracking.model_files import PACKED_MODEL
from prism_ray.training.inference import predict_inputs


class _Predictions:
    """The method that serves; inherited and without type hints, since MLflow takes hints of its own kinds alone."""

    _model: Prism

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Predictions of genes; see `predict_inputs`."""
        return predict_inputs(self._model, model_input)


class ServedPrism(_Predictions, mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow publishes no types
    """A Prism as MLflow serves it: NumPy arrays of genes in, predictions out."""

    def load_context(self, context: Any) -> None:
        """Read weights and settings."""
        self._model = load(context.artifacts[PACKED_MODEL])


mlflow.models.set_model(ServedPrism())
