"""The run of one trial in MLflow: everything is buffered first, so that a tracker outage never stops training."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from prism_ray.tracking.addresses import redact
from prism_ray.tracking.client import TRACKER_FAULTS, connect, describe, retry_locked
from prism_ray.tracking.courier import Courier
from prism_ray.tracking.headers import Status, TrialHeader
from prism_ray.tracking.journal import Journal, Operation
from prism_ray.tracking.outbox import Outbox
from prism_ray.tracking.parameters import encode_parameter
from prism_ray.tracking.run_lock import run_lock

METRICS_A_BATCH = 1000
PARAMETERS_A_BATCH = 100
TAGS_A_BATCH = 100
DIGEST_LENGTH = 36
"""Characters that MLflow keeps of a data set's digest."""
INHERITED_TAGS = ("prism.results_version", "prism.git_commit", "prism.git_dirty")

_FIRST_WAIT_S = 5.0
_LONGEST_WAIT_S = 60.0
_FINISH_WAITS_S = (0.5, 1.0, 2.0)
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"}
_log = logging.getLogger(__name__)


class MlflowTrialLog:
    """A trial's nested run, opened at the first delivery that reaches the store.

    Args:
        uri: address of the store.
        parent_run_id: run of the study.
        header: what the run says of the trial.
        journal_path: file that keeps what could not be delivered; None to keep it in memory only.
        courier: thread that delivers; None to deliver in the thread that logs.
    """

    def __init__(
        self,
        uri: str,
        parent_run_id: str,
        header: TrialHeader,
        journal_path: Path | None,
        courier: Courier | None = None,
    ) -> None:
        self._uri = uri
        self._parent_run_id = parent_run_id
        self._header = header
        self._courier = courier
        self._client: MlflowClient | None = None
        self._run_id: str | None = None
        self._known: dict[tuple[str, int], float] = {}
        self._outbox = Outbox(Journal(journal_path, redact(uri), parent_run_id, header))
        self._journal_path = journal_path
        self._n_refused = 0
        self._problem = ""
        self._wait_s = 0.0
        self._not_before = 0.0
        if courier is None:
            self.deliver()
        else:
            courier.visit(self.deliver_or_keep)

    @property
    def run_id(self) -> str | None:
        """Run of the trial; None as long as the store could not be reached to open it."""
        return self._run_id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of a step, by `split/name`; sent soon, or with a later call where the store is away."""
        now_ms = time.time_ns() // 1_000_000
        self._add(Operation("metrics", {name: [float(value), step, now_ms] for name, value in metrics.items()}))

    def log_files(self, files: Mapping[str, Path]) -> None:
        """Local files to keep with the run, by their path among its artifacts."""
        self._add(*(Operation("file", {path: str(Path(local).resolve())}) for path, local in files.items()))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """More tags of the run."""
        self._add(Operation("tags", dict(tags)))

    def finish(self, status: Status) -> None:
        """End the run.

        Without a courier it waits a few seconds at most for a store that is away, then leaves a journal and a warning.
        With one, all that is not delivered is in the journal when this returns, and the courier does the rest.
        """
        finish = Operation("finish", {"status": status, "end_time": time.time_ns() // 1_000_000})
        if self._courier is None:
            self.end(finish)
            return
        self._outbox.put(finish)
        self._keep()
        self._courier.visit(self._deliver_to_the_end, at_once=True)

    def end(self, finish: Operation) -> bool:
        """Deliver what is left and then `finish`, in this thread; False where it stays in the journal."""
        self._outbox.put(finish)
        return self._deliver_to_the_end()

    def deliver(self) -> bool:
        """Send what is buffered; False where the store is away, and then not tried again for some seconds."""
        if time.monotonic() < self._not_before:
            return False
        try:
            client, run_id = self._opened()
            while waiting := self._outbox.waiting():
                self._outbox.delivered(self._send_first(client, run_id, waiting))
        except TRACKER_FAULTS as problem:
            self._client = None
            self._wait_s = min(max(_FIRST_WAIT_S, 2 * self._wait_s), _LONGEST_WAIT_S)
            self._not_before = time.monotonic() + self._wait_s
            self._problem = describe(problem)
            _log.info("tracking store %s is away (%s)", redact(self._uri), self._problem)
            self._keep()
            return False
        self._wait_s = 0.0
        self._outbox.settle()
        return True

    def deliver_or_keep(self) -> None:
        """Send what is buffered, or see that the journal has it."""
        if not self.deliver():
            self._keep()

    def _deliver_to_the_end(self) -> bool:
        for wait_s in (0.0, *_FINISH_WAITS_S):
            time.sleep(wait_s)
            self._not_before = 0.0
            if self.deliver():
                return True
        kept = f"kept in {self._journal_path}" if self._journal_path else "lost, as no journal was asked for"
        _log.warning(
            "trial %s: %d records did not reach %s and are %s (%s)",
            self._header.trial_id,
            len(self._outbox),
            redact(self._uri),
            kept,
            self._problem,
        )
        return False

    def _add(self, *operations: Operation) -> None:
        self._outbox.put(*operations)
        if self._courier is None:
            self.deliver_or_keep()
        else:
            self._courier.visit(self.deliver_or_keep)

    def _keep(self) -> None:
        problem = self._outbox.keep()
        if problem is not None:
            _log.warning("%s: what the tracker could not take cannot be kept (%s)", self._journal_path, problem)

    def _send_first(self, client: MlflowClient, run_id: str, waiting: Sequence[Operation]) -> int:
        """Send the first operation, or as many as go together in one call; how many that was."""
        first = waiting[0]
        batch = leading_batch(waiting)
        try:
            if batch:
                self._send_batch(client, run_id, batch)
            elif first.kind == "file":
                for artifact_path, local in first.content.items():
                    self._send_file(client, run_id, artifact_path, Path(local))
            else:
                status, end_time = first.content["status"], first.content["end_time"]
                retry_locked(lambda: client.set_terminated(run_id, status, end_time))
        except MlflowException as problem:
            if problem.error_code not in _REFUSALS:
                raise
            if len(batch) > 1:
                # One of them is refused, and would take the others with it.
                return self._send_first(client, run_id, waiting[:1])
            self._refused(1, describe(problem))
        return max(1, len(batch))

    def _send_batch(self, client: MlflowClient, run_id: str, batch: Sequence[Operation]) -> None:
        """Send metrics and tags in one call, without metrics that the run has and tags that are set again later."""
        # A resumed trial repeats the steps since its checkpoint: the same values, so one point each. They may also wait
        # here twice, as an earlier process of the trial left them in the journal.
        points: dict[tuple[str, int], float] = {}
        metrics = []
        for operation in batch:
            if operation.kind != "metrics":
                continue
            for name, (value, step, time_ms) in operation.content.items():
                point = (name, step)
                if points.get(point, self._known.get(point)) != value:
                    points[point] = value
                    metrics.append(Metric(name, value, time_ms, step))
        tags: dict[str, str] = {}
        for operation in batch:
            if operation.kind == "tags":
                tags.update(operation.content)
        if metrics or tags:
            run_tags = [RunTag(name, value) for name, value in tags.items()]
            retry_locked(lambda: client.log_batch(run_id, metrics=metrics, tags=run_tags))
        self._known.update(points)

    def _send_file(self, client: MlflowClient, run_id: str, artifact_path: str, local: Path) -> None:
        if not local.is_file():
            self._refused(1, f"{local} is no longer there")
            return
        send_file(client, run_id, artifact_path, local)

    def _refused(self, n_operations: int, reason: str) -> None:
        self._n_refused += n_operations
        _log.warning("trial %s: the tracker refused %d records: %s", self._header.trial_id, n_operations, reason)

    def _opened(self) -> tuple[MlflowClient, str]:
        if self._client is None:
            self._client = connect(self._uri)
        if self._run_id is None:
            with run_lock(self._journal_path):
                self._run_id = self._open(self._client)
        return self._client, self._run_id

    def _open(self, client: MlflowClient) -> str:
        """Run of the trial, found by its id under the parent or made."""
        header = self._header
        parent = client.get_run(self._parent_run_id)
        inherited = {name: parent.data.tags[name] for name in INHERITED_TAGS if name in parent.data.tags}
        tags = {**inherited, **header.all_tags(), MLFLOW_PARENT_RUN_ID: self._parent_run_id}
        run = find_run(client, parent.info.experiment_id, header, self._parent_run_id)
        if run is None:
            name = f"{header.arm}-{header.trial_id[:8]}"
            run = retry_locked(lambda: client.create_run(parent.info.experiment_id, run_name=name, tags=tags))
            inputs = [dataset_input(header.cell_type, header.data_digest, (header.fold,))]
            retry_locked(lambda: client.log_inputs(run.info.run_id, inputs))
        else:
            self._go_on_with(client, run, tags)
        self._log_parameters(client, run)
        return str(run.info.run_id)

    def _go_on_with(self, client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
        run_id = run.info.run_id
        retry_locked(lambda: client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()]))
        if run.info.status != "RUNNING":
            retry_locked(lambda: client.update_run(run_id, status="RUNNING"))
        for name in run.data.metrics:
            for metric in client.get_metric_history(run_id, name):
                self._known[(metric.key, metric.step)] = metric.value

    def _log_parameters(self, client: MlflowClient, run: Run) -> None:
        wanted = {name: encode_parameter(value) for name, value in self._header.parameters.items()}
        kept = run.data.params
        missing = [Param(name, value) for name, value in wanted.items() if name not in kept]
        for start in range(0, len(missing), PARAMETERS_A_BATCH):
            batch = missing[start : start + PARAMETERS_A_BATCH]
            retry_locked(lambda batch=batch: client.log_batch(run.info.run_id, params=batch))  # type: ignore[misc]
        changed = sorted(name for name, value in wanted.items() if kept.get(name, value) != value)
        if changed:
            # Parameters are write-once: what the run was started with stays, and the difference is said.
            _log.warning("trial %s: its run keeps other values of %s", self._header.trial_id, ", ".join(changed))
            client.set_tag(run.info.run_id, "prism.parameters_differ", ", ".join(changed))


def leading_batch(waiting: Sequence[Operation]) -> list[Operation]:
    """The metrics and tags at the front that fit into one call; empty where the first operation is of another kind."""
    batch: list[Operation] = []
    n_taken = {"metrics": 0, "tags": 0}
    most = {"metrics": METRICS_A_BATCH, "tags": TAGS_A_BATCH}
    for operation in waiting:
        if operation.kind not in most:
            break
        n_taken[operation.kind] += len(operation.content)
        if batch and n_taken[operation.kind] > most[operation.kind]:
            break
        batch.append(operation)
    return batch


def find_run(client: MlflowClient, experiment_id: str, header: TrialHeader, parent_run_id: str) -> Run | None:
    """First run of a trial of an arm under a parent, or None: a finalist may be the trial of a proposal as well."""
    wanted = (
        f"tags.`prism.trial_id` = '{header.trial_id}' and tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_run_id}'"
        f" and tags.`prism.arm` = '{header.arm}'"
    )
    runs = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time ASC"])
    return runs[0] if runs else None


def dataset_input(cell_type: str, data_digest: str, folds: Sequence[str]) -> DatasetInput:
    """The data of a run as MLflow shows them: the genes of a cell type in a store, and the folds they were split by."""
    source = json.dumps({"data_digest": data_digest, "folds": list(folds)})
    return DatasetInput(Dataset(cell_type, data_digest[:DIGEST_LENGTH], "prism_ray_store", source))


def send_file(client: MlflowClient, run_id: str, artifact_path: str, local: Path) -> None:
    """Keep a local file under a path among a run's artifacts, whatever its local name is."""
    target = PurePosixPath(artifact_path)
    folder = None if target.parent == PurePosixPath(".") else str(target.parent)
    if local.name == target.name:
        client.log_artifact(run_id, str(local), folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        renamed = Path(scratch) / target.name
        shutil.copyfile(local, renamed)
        client.log_artifact(run_id, str(renamed), folder)
