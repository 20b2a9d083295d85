"""When two runs are the same run: the same settings on the same data by code that gives the same numbers."""

from __future__ import annotations

import hashlib

from prism_ray.config import RunConfig

RESULTS_VERSION = 1
"""Raised by every change of the code that moves numbers, so that older results are not taken for new ones."""

_ID_DIGITS = 16


def trial_id(config: RunConfig, data_digest: str) -> str:
    """Identity of a run, 16 hexadecimal digits; a finished run of the same identity is not repeated.

    Args:
        config: settings of the run.
        data_digest: digest of the feature store that it reads.
    """
    text = "\n".join((config.fingerprint(), data_digest, str(RESULTS_VERSION)))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]
