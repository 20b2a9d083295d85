"""Trained models in MLflow's registry: packed once, found again, and named by aliases."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from prism_ray.tracking.addresses import absolute
from prism_ray.tracking.client import connect, naming_the_store
from prism_ray.tracking.model_files import PACKED_MODEL

with warnings.catch_warnings():
    # While it is imported it warns of type hints in its own code.
    warnings.simplefilter("ignore", UserWarning)
    import mlflow.pyfunc

PACKED_PATH = "packed_model"
"""Folder of a packed model among its run's artifacts."""
CANDIDATE, CHAMPION = "candidate", "champion"
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Registration:
    """A model's place in the registry.

    Attributes:
        name: registered model.
        version: of it, counted from 1.
        aliases: that point to this version now.
        is_new: whether the version was made now; False where the run's model had one.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    is_new: bool


@dataclass(frozen=True)
class Packing:
    """What a packed model is made of.

    Attributes:
        model: folder with weights and settings.
        code: file that MLflow runs to have the model.
        example: inputs of a few genes, by name, first axis the genes.
        outputs: what the model gives for them.
        requirements: pip requirements of `code`.
    """

    model: Path
    code: Path
    example: Arrays
    outputs: Arrays
    requirements: Sequence[str]

    def signature(self) -> ModelSignature:
        """Names, types and shapes of inputs and outputs; the number of genes and the window are free."""
        inputs = [
            TensorSpec(array.dtype, (-1, -1, *array.shape[2:]) if name != "scalars" else (-1, *array.shape[1:]), name)
            for name, array in self.example.items()
        ]
        outputs = [TensorSpec(array.dtype, (-1, *array.shape[1:]), name) for name, array in self.outputs.items()]
        return ModelSignature(Schema(inputs), Schema(outputs))

    def write(self, folder: Path) -> None:
        """Write the packed model into a folder that is not there yet."""
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(self.code),
            artifacts={PACKED_MODEL: str(self.model)},
            signature=self.signature(),
            input_example=dict(self.example),
            pip_requirements=list(self.requirements),
        )


def register_model(
    tracking_uri: str, name: str, run_id: str, packing: Packing, *, tags: Mapping[str, str], description: str
) -> Registration:
    """Register a run's model: pack it among the run's artifacts and make a version, unless it has one.

    Args:
        tracking_uri: address of the store.
        name: registered model, made where there is none.
        run_id: run that trained the model.
        packing: what to pack.
        tags: of the version.
        description: of the registered model.

    Raises:
        TrackingError: the store is away or refuses.
    """
    uri = absolute(tracking_uri)
    with naming_the_store(uri):
        client = connect(uri)
        found = _version_of(client, name, run_id)
        if found is not None:
            return Registration(name, found, _aliases(client, name, found), is_new=False)
        with tempfile.TemporaryDirectory(prefix="prism-ray-packed-") as scratch:
            packing.write(Path(scratch) / PACKED_PATH)
            client.log_artifacts(run_id, str(Path(scratch) / PACKED_PATH), PACKED_PATH)
        try:
            client.create_registered_model(name, description=description)
        except MlflowException as problem:
            if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"runs:/{run_id}/{PACKED_PATH}"
        made = client.create_model_version(name, source, run_id, tags=dict(tags), await_creation_for=None)
        return Registration(name, int(made.version), (), is_new=True)


def requirements(*packages: str) -> list[str]:
    """Pip requirements for the versions of packages that are installed here."""
    return [f"{package}=={version(package)}" for package in packages]


def name_version(tracking_uri: str, registration: Registration, aliases: Sequence[str]) -> Registration:
    """Point aliases to a version, away from whatever they pointed to.

    Raises:
        TrackingError: the store is away or refuses.
    """
    uri = absolute(tracking_uri)
    with naming_the_store(uri):
        client = connect(uri)
        for alias in aliases:
            client.set_registered_model_alias(registration.name, alias, str(registration.version))
        now = _aliases(client, registration.name, registration.version)
    return Registration(registration.name, registration.version, now, registration.is_new)


def _version_of(client: MlflowClient, name: str, run_id: str) -> int | None:
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'", max_results=1)
    return int(versions[0].version) if versions else None


def _aliases(client: MlflowClient, name: str, version: int) -> tuple[str, ...]:
    return tuple(sorted(client.get_model_version(name, str(version)).aliases))
