"""What is no database for a searcher is named with what to do, and without its password."""

from __future__ import annotations

import pytest

from prism_ray.distributed.search_storage import open_storage
from prism_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nothing://host/name", "nothing://host/name: is no database that can be used; use postgresql"),
        ("mysql+pymysql://someone:secret@host/name", "its driver is not installed"),
        ("postgresql://someone:secret@127.0.0.1:9/name", "cannot be opened .*onnection refused"),
        ("sqlite:////no/such/folder/search.db", "cannot be opened .*unable to open database file"),
    ],
)
def test_databases_that_cannot_be_opened_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        open_storage(url)
    assert "secret" not in str(refused.value)
