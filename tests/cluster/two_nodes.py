"""Two nodes on this machine, as Slurm would give them: addresses, processes and temporary folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

ADDRESSES = ("10.231.7.1", "10.231.7.2")


@dataclass(frozen=True)
class TwoNodes:
    """Network namespaces that see each other and nothing else.

    Attributes:
        names: of the namespaces.
    """

    names: tuple[str, str]

    def command(self, node: int, folder: str) -> list[str]:
        """Beginning of a command line on a node, with processes of its own and an empty `folder`; all end with it."""
        enter = ["ip", "netns", "exec", self.names[node], "unshare", "--pid", "--mount", "--fork", "--mount-proc"]
        mount = f'mount -t tmpfs none {folder} && exec "$@"'
        return [*enter, "--kill-child", "bash", "-c", mount, "node"]


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Make them for the time of the block; the test is skipped where that is not allowed."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("network and process namespaces need root, iproute2 and util-linux")
    first, second = (f"prism{os.getpid()}{letter}" for letter in "ab")
    nodes = TwoNodes((first, second))
    try:
        try:
            _connect(nodes)
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"this machine does not allow network and process namespaces: {refused.stderr.strip()}")
        yield nodes
    finally:
        for name in (first, second):
            ip("netns", "del", name)


def _connect(nodes: TwoNodes) -> None:
    """Make the namespaces and a link between them, and try whether a node can be entered."""
    first, second = nodes.names
    for name in nodes.names:
        ip("netns", "add", name, check=True)
    ip("link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", "eth0", "netns", second, check=True)
    for name, address in zip(nodes.names, ADDRESSES, strict=True):
        for words in (f"addr add {address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            ip("-n", name, *words.split(), check=True)
    subprocess.run([*nodes.command(0, "/mnt"), "true"], capture_output=True, text=True, check=True)


def ip(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    """A command of iproute2."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=check)
