"""What a trial has for its tracker and has not delivered, in order."""

from __future__ import annotations

import threading

from prism_ray.tracking.journal import Journal, Operation


class Outbox:
    """Operations that wait for their delivery; a file keeps them where it may not come soon.

    Any thread may put operations in; one at a time delivers them. It begins with what an earlier process of the trial
    left in the file.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        # How an earlier process ended says nothing of how this one will.
        self._operations = [operation for operation in journal.read() if operation.kind != "finish"]
        self._n_kept = len(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def put(self, *operations: Operation) -> None:
        """Add operations behind those that wait."""
        with self._lock:
            self._operations += operations

    def waiting(self) -> list[Operation]:
        """What waits now, the oldest first."""
        with self._lock:
            return list(self._operations)

    def delivered(self, n_operations: int) -> None:
        """Forget the oldest operations, which the tracker has."""
        with self._lock:
            del self._operations[:n_operations]
            self._n_kept = max(0, self._n_kept - n_operations)

    def keep(self) -> OSError | None:
        """Write what waits and is not in the file yet; the problem where that cannot be done."""
        with self._lock:
            try:
                self._journal.add(self._operations[self._n_kept :])
            except OSError as problem:
                return problem
            self._n_kept = len(self._operations)
            return None

    def settle(self) -> None:
        """Remove the file where nothing waits any more."""
        with self._lock:
            if not self._operations:
                self._journal.clear()
