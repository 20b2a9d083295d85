"""How often and after what pause a trial is started again whose process died."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prism_ray.errors import FaultList, InputError


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds of one launch; a new launch counts anew.

    Attributes:
        retries: times that a trial is started again whose process died; it goes on from its last checkpoint.
        lost_nodes: times that it is started again because its node was lost, which is no fault of its own.
        first_wait_s: seconds before the first start again; each further one waits twice as long.
        most_wait_s: longest wait.
    """

    retries: int = 2
    lost_nodes: int = 20
    first_wait_s: float = 2.0
    most_wait_s: float = 120.0

    def __post_init__(self) -> None:
        faults = FaultList()
        for name in ("retries", "lost_nodes", "first_wait_s", "most_wait_s"):
            if not 0 <= getattr(self, name) < math.inf:
                faults.add(f"retry.{name}", f"{getattr(self, name)} cannot be", "use 0 or more")
        faults.raise_if_any(InputError)

    def wait_s(self, n_ended: int) -> float:
        """Seconds to wait after the `n_ended`-th death or loss of a trial."""
        return min(self.most_wait_s, self.first_wait_s * 2.0 ** min(n_ended - 1, 60))
