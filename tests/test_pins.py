"""constraints.txt can be installed wherever the project says that it runs, not only where these tests run."""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

LINES = (REPOSITORY / "constraints.txt").read_text().splitlines()
PINS = {
    canonicalize_name(pin.name): pin
    for pin in map(Requirement, (line for line in LINES if line and not line.startswith("#")))
}
INSTALLED = {canonicalize_name(each.metadata["Name"]): each for each in importlib.metadata.distributions()}
# By the metadata of torch's wheels on PyPI for Linux; the CPU build names none.
TRITON_OF_CUDA_BUILDS = {"2.13.0": "3.7.1"}


def version_of(name: str) -> str:
    """The pinned one."""
    return str(PINS[canonicalize_name(name)].specifier).removeprefix("==")


def test_the_pinned_triton_is_the_one_that_pytorch_requires() -> None:
    assert version_of("triton") == TRITON_OF_CUDA_BUILDS[version_of("torch")]
    for wanted in map(Requirement, importlib.metadata.requires("torch") or ()):
        assert wanted.name != "triton" or wanted.specifier.contains(version_of("triton"))


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_pins_are_for_the_pythons_that_their_releases_run_on(python: str) -> None:
    """A pin that says for which Python it is leaves the choice for others to pip."""
    (allowed,) = re.findall(r'requires-python = "(.+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert SpecifierSet(allowed).contains(f"{python}.0")
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.20"}
    for name, pin in PINS.items():
        if name in INSTALLED and (pin.marker is None or pin.marker.evaluate(environment)):
            runs_on = INSTALLED[name].metadata.get("Requires-Python") or ""
            assert SpecifierSet(runs_on).contains(f"{python}.20"), f"{pin} is for Python {runs_on}"
