"""What finished trials keep of test genes, read back from their runs: predictions, weights of states, inputs."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from prism_ray.errors import Fault, TrackingError
from prism_ray.tracking.addresses import absolute
from prism_ray.tracking.client import connect, describe, naming_the_store

PREDICTIONS_NAME = "test_predictions.parquet"
"""File among a trial's artifacts; the trial's record writes it under the same name."""
STATES_NAME = "state_weights.parquet"
"""The same of a trial that learned background states."""
EXAMPLE_NAME = "example_input.npz"
"""The same of a trial that trained its model."""
PREDICTION_COLUMNS = ("gene_id", "chrom", "label", "prediction")
_AT_ONCE = 8


def fetch_predictions(tracking_uri: str, run_ids: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Test predictions by run, a row a gene with gene_id, chrom, label and prediction; runs without are left out.

    Raises:
        TrackingError: the store cannot be reached or does not know a run.
    """
    return _fetch(tracking_uri, run_ids, PREDICTIONS_NAME, PREDICTION_COLUMNS)


def fetch_state_weights(tracking_uri: str, run_ids: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Weights a_i of learned background states by run; runs without are left out.

    A row a test gene: gene_id and, for each state, `state_i`, a list of D float32.

    Raises:
        TrackingError: the store cannot be reached or does not know a run.
    """
    return _fetch(tracking_uri, run_ids, STATES_NAME, None)


def fetch_example(tracking_uri: str, run_id: str) -> dict[str, NDArray[Any]] | None:
    """Inputs of a few test genes of a run: gene_id (N,), and what its model reads; None where it keeps none.

    Raises:
        TrackingError: the store cannot be reached or does not know the run, or the file is damaged.
    """
    uri = absolute(tracking_uri)
    with naming_the_store(uri), tempfile.TemporaryDirectory(prefix="prism-ray-example-") as scratch:
        file = _file(connect(uri), run_id, EXAMPLE_NAME, Path(scratch) / run_id)
        if file is None:
            return None
        try:
            with np.load(file) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, zipfile.BadZipFile) as problem:
            raise _unreadable(run_id, file, problem) from problem


def _fetch(
    tracking_uri: str, run_ids: Iterable[str], name: str, columns: Sequence[str] | None
) -> dict[str, pd.DataFrame]:
    """Tables that runs keep under a name; `columns` of them, or all."""
    uri = absolute(tracking_uri)
    wanted = list(run_ids)
    with naming_the_store(uri), tempfile.TemporaryDirectory(prefix="prism-ray-tables-") as scratch:
        client = connect(uri)
        # Asking the store for each of many runs costs more than reading their files: runs of one study lie alike.
        first = str(client.get_run(wanted[0]).info.artifact_uri) if wanted else ""

        def read(run_id: str) -> pd.DataFrame | None:
            file = _local_file(first.replace(wanted[0], run_id), name) if wanted[0] in first else None
            if file is None:
                file = _file(client, run_id, name, Path(scratch) / run_id)
            return None if file is None else _table(file, run_id, columns)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(read, wanted))
    return {run_id: table for run_id, table in zip(wanted, found, strict=True) if table is not None}


def _table(file: Path, run_id: str, columns: Sequence[str] | None) -> pd.DataFrame:
    try:
        return pd.read_parquet(file, columns=None if columns is None else list(columns))
    except (OSError, ValueError) as problem:
        raise _unreadable(run_id, file, problem) from problem


def _unreadable(run_id: str, file: Path, problem: Exception) -> TrackingError:
    fault = Fault(f"run {run_id}", f"its {file.name} cannot be read ({describe(problem)})", "run the trial again")
    return TrackingError(str(fault), [fault])


def _local_file(location: str, name: str) -> Path | None:
    """A file of a folder of artifacts on this machine; None where it is elsewhere, or has none of the name."""
    parts = urlsplit(location)
    file = Path(unquote(parts.path)) / name
    return file if parts.scheme in ("", "file") and file.is_file() else None


def _file(client: MlflowClient, run_id: str, name: str, scratch: Path) -> Path | None:
    """An artifact of a run: where it lies, or fetched into `scratch`; None where the run has none of the name."""
    location = str(client.get_run(run_id).info.artifact_uri)
    if urlsplit(location).scheme in ("", "file"):
        return _local_file(location, name)
    if name not in {item.path for item in client.list_artifacts(run_id)}:
        return None
    scratch.mkdir()
    try:
        return Path(client.download_artifacts(run_id, name, str(scratch)))
    except MlflowException as problem:
        raise OSError(f"run {run_id}: its {name} cannot be fetched ({problem})") from problem
