"""The catalogs that docs/catalog.md shows are catalogs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from prism_ray.features.catalog import load_catalog
from tests.conftest import REPOSITORY

BLOCKS = [
    yaml.safe_load(text)
    for text in re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/catalog.md").read_text(), re.DOTALL)
]


def catalogs() -> list[dict[str, Any]]:
    """The whole catalog, and the same with each of the fragments in its place."""
    whole, *fragments = BLOCKS
    found = [whole]
    for fragment in fragments:
        (name,) = fragment
        changed = yaml.safe_load(yaml.safe_dump(whole))
        (changed if name in changed else changed["cell_types"]["K562"])[name] = fragment[name]
        found.append(changed)
    return found


@pytest.mark.parametrize("content", catalogs(), ids=lambda content: next(iter(content["genes"])))
def test_catalogs_of_the_documentation_load(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert load_catalog(path).name == "my-cells"


def test_it_shows_a_whole_catalog_and_fragments() -> None:
    assert len(BLOCKS) == 3
