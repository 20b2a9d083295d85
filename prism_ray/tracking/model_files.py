"""Files of a model that a tracking store keeps: by run, by registered version, by alias."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.tracking import MlflowClient

from prism_ray.errors import Fault, TrackingError
from prism_ray.tracking.addresses import absolute, database_file, redact
from prism_ray.tracking.client import connect, naming_the_store

PACKED_MODEL = "model"
"""Name of weights and settings inside a packed model; its file `MLmodel` says that it is one."""

_RUN = re.compile(r"runs:/(?P<run_id>[^/@]+)/(?P<path>.+)")
_VERSION = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")


@contextmanager
def fetched_model(uri: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """Folder with the files of a model, for the time of the block.

    Args:
        uri: `runs:/RUN_ID/model`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: address of the store; MLFLOW_TRACKING_URI where not given.

    Raises:
        TrackingError: the URI is of no such form, no store is named, or it is away or has no such model.
    """
    if not (_RUN.fullmatch(uri) or _VERSION.fullmatch(uri)):
        _refuse(uri, "names no model", "give runs:/RUN_ID/model, models:/NAME@ALIAS or models:/NAME/VERSION")
    store = _store_of(uri, tracking_uri)
    with tempfile.TemporaryDirectory(prefix="prism-ray-model-") as scratch:
        with naming_the_store(store):
            source = _source(connect(store), uri)
            if not list_artifacts(artifact_uri=source, tracking_uri=store):
                _refuse(uri, "holds no file", f"it points to {redact(source)}; a model of prism-ray is a folder there")
            files = download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=store, registry_uri=store)
        packed = Path(files, "MLmodel").is_file()
        yield Path(files, "artifacts", PACKED_MODEL) if packed else Path(files)


def _store_of(uri: str, tracking_uri: str | None) -> str:
    """Address of the store, which exists: reading must not make an empty one."""
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        _refuse(uri, "needs a tracking store, and none is named", "set MLFLOW_TRACKING_URI or give its address")
    store = absolute(given or "")
    file = database_file(store)
    if file is not None and not file.exists():
        _refuse(f"tracking store {redact(store)}", "does not exist", f"it would have to hold {uri}")
    return store


def _source(client: MlflowClient, uri: str) -> str:
    """Where the files of a model are: the URI itself, or what its registered version points to."""
    registered = _VERSION.fullmatch(uri)
    if registered is None:
        return uri
    name, version = registered["name"], registered["version"]
    if registered["alias"] is not None:
        version = client.get_model_version_by_alias(name, registered["alias"]).version
    return str(client.get_model_version_download_uri(name, str(version)))


def _refuse(where: str, problem: str, fix: str) -> None:
    fault = Fault(where, problem, fix)
    raise TrackingError(str(fault), [fault])
