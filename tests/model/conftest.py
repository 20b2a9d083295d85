"""One thread a test: small tensors gain nothing from more, and on a busy machine they wait for each other."""

import os
from collections.abc import Iterator

import pytest
import torch

# Triton reads it when its own library is defined, so it must be there before anything imports Triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
