"""Per-gene test predictions of finished trials, read back from the runs that keep them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from prism_ray.tracking.addresses import absolute
from prism_ray.tracking.client import connect, naming_the_store

PREDICTIONS_NAME = "test_predictions.parquet"
"""File among a trial's artifacts; the trial's record writes it under the same name."""
PREDICTION_COLUMNS = ("gene_id", "chrom", "label", "prediction")
_AT_ONCE = 8


def fetch_predictions(tracking_uri: str, run_ids: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Test predictions by run, a row a gene with gene_id, chrom, label and prediction; runs without are left out.

    Raises:
        TrackingError: the store cannot be reached or does not know a run.
    """
    uri = absolute(tracking_uri)
    wanted = list(run_ids)
    with naming_the_store(uri), tempfile.TemporaryDirectory(prefix="prism-ray-predictions-") as scratch:
        client = connect(uri)

        def read(run_id: str) -> pd.DataFrame | None:
            return _read(client, run_id, Path(scratch) / run_id)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(read, wanted))
    return {run_id: table for run_id, table in zip(wanted, found, strict=True) if table is not None}


def _read(client: MlflowClient, run_id: str, scratch: Path) -> pd.DataFrame | None:
    location = urlsplit(str(client.get_run(run_id).info.artifact_uri))
    if location.scheme in ("", "file"):
        file = Path(unquote(location.path)) / PREDICTIONS_NAME
        return _table(file) if file.is_file() else None
    if PREDICTIONS_NAME not in {item.path for item in client.list_artifacts(run_id)}:
        return None
    scratch.mkdir()
    try:
        return _table(Path(client.download_artifacts(run_id, PREDICTIONS_NAME, str(scratch))))
    except MlflowException as problem:
        raise OSError(f"run {run_id}: its {PREDICTIONS_NAME} cannot be fetched ({problem})") from problem


def _table(file: Path) -> pd.DataFrame:
    return pd.read_parquet(file, columns=list(PREDICTION_COLUMNS))
