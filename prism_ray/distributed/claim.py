"""The right to work in a trial's folder, and what its holder looks at after every step."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from prism_ray.distributed.attempts import end_attempt
from prism_ray.distributed.failures import forget_failure
from prism_ray.distributed.lease import Holder, Lease, take_lease
from prism_ray.distributed.stop_request import StopWatch
from prism_ray.distributed.workspace import LEASE_NAME
from prism_ray.training.checkpoint import remove_state
from prism_ray.training.preemption import RunInterruptedError
from prism_ray.training.record import RESULT_NAME, TrialRecord, read_record

_CHECK_S = 1.0
_TIDYING_S = 20.0


class TrialClaim:
    """This process is the only one that trains the trial; leave its context to give the trial back."""

    def __init__(self, lease: Lease, stop: StopWatch | None) -> None:
        self._lease = lease
        self._stop = stop
        self._next_check = 0.0

    def __enter__(self) -> TrialClaim:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._lease.__exit__()

    def end_asked(self) -> bool:
        """Whether the trial is to end after this step; looks at files once a second, however often it is asked.

        Raises:
            LeaseLostError: another process took the trial over, while this one was frozen.
        """
        if time.monotonic() >= self._next_check:
            self._lease.check()
            self._next_check = time.monotonic() + _CHECK_S
        return self._stop is not None and self._stop() is not None


def claim_trial(folder: Path, purpose: str, study_folder: Path | None) -> TrialClaim | TrialRecord:
    """The claim of a trial once nobody else has it, or its record where another process finished it meanwhile.

    Args:
        folder: of the trial.
        purpose: what this process does, for others that wait.
        study_folder: of the study, where a request to stop would be; None where nobody can ask.

    Raises:
        RunInterruptedError: the study was told to stop while another process had the trial.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stop = None if study_folder is None else StopWatch(study_folder)

    recorded: list[float] = []

    def waited_enough(holder: Holder | None) -> bool:
        if not recorded and (folder / RESULT_NAME).exists():
            recorded.append(time.monotonic())
        # Whoever wrote the record has things to tidy and to track; it is waited for, but not for long.
        is_over = bool(recorded) and time.monotonic() - recorded[0] > _TIDYING_S
        return is_over or (stop is not None and stop() is not None)

    lease = take_lease(folder / LEASE_NAME, purpose, waited_enough=waited_enough)
    record = read_record(folder)
    if lease is None and record is None:
        raise RunInterruptedError(f"told to end while another process trains the trial in {folder}")
    if record is None:
        assert lease is not None
        return TrialClaim(lease, stop)
    if lease is not None:
        with lease:
            _tidy(folder, record)
    return record


def _tidy(folder: Path, record: TrialRecord) -> None:
    """Do what a process left undone that died just after it had written the record."""
    remove_state(folder)
    forget_failure(folder)
    end_attempt(folder, "finished", record.config.training.n_steps)
