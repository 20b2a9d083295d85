"""Every test of this folder is marked `gpu` and skipped where there is no NVIDIA GPU."""

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    absent = pytest.mark.skip(reason="no NVIDIA GPU here")
    usable = torch.cuda.is_available() and torch.version.cuda is not None
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not usable:
                item.add_marker(absent)
