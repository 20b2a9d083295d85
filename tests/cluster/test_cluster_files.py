"""What all files under cluster/ promise: how to use them, one version of everything, nothing open, no secrets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
# What a clone holds: a server's own secrets and backups are not part of it.
FILES = sorted(
    REPOSITORY / line
    for line in subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "cluster"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
)
DECLARATIONS = [file for file in FILES if file.suffix != ".md"]
SCRIPTS = [file for file in FILES if file.suffix in (".sh", ".sbatch")]
NAMES = [file.relative_to(CLUSTER).as_posix() for file in DECLARATIONS]
HEADER_WORDS = {
    "Purpose": ("Purpose:",),
    "Edit": ("Edit:",),
    "Apply": ("Apply:", "Start:", "Back up:"),
    "Check": ("Check:",),
    "Remove": ("Remove:", "Stop:"),
}
RAY_VERSION = re.compile(r"(?:rayproject/ray:|rayVersion: ['\"]?|ray==)([0-9]+\.[0-9]+\.[0-9]+)")
RAY_VERSION_HOLDERS = {
    "docker/Dockerfile",
    "kuberay/cluster/raycluster.yaml",
    "kuberay/job/rayjob.yaml",
    "ray/aws.yaml",
    "ray/gcp.yaml",
}
# A value behind a name that speaks of secrets; references and file names are none.
SECRET = re.compile(
    r"(?i)\b[\w-]*(?:password|passwd|token|secret|api_?key)[\w-]*\"?[ \t]*[:=][ \t]*[\"']?(?P<value>[^\s\"',})\]]+)"
)
# Variables, paths, switches, block scalars and lists, and the names of Kubernetes and compose secrets.
REFERENCES = re.compile(
    r"^(\$|/|~|\{|--|mlflow-(?:server|client)$|token$|required$|/run/|yes$|16$|false$|-$)|_password$"
)


def pinned(package: str) -> str:
    found = re.findall(rf"(?m)^{re.escape(package)}==(\S+)", (REPOSITORY / "constraints.txt").read_text())
    (version,) = found
    return str(version)


def statements(text: str) -> str:
    """A file without its comments: those speak of secrets in plain words."""
    return re.sub(r"(?m)(^|\s)#.*$", "", text)


def header(text: str) -> str:
    """The comment that a file begins with."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("file", DECLARATIONS, ids=NAMES)
def test_a_file_says_how_it_is_used(file: Path) -> None:
    said = header(file.read_text())
    missing = [word for word, spellings in HEADER_WORDS.items() if not any(f"# {one}" in said for one in spellings)]
    assert not missing, f"{file}: its first comment does not say {missing}"


@pytest.mark.parametrize("file", DECLARATIONS, ids=NAMES)
def test_edit_marks_are_announced(file: Path) -> None:
    text = file.read_text()
    body = text[len(header(text)) :]
    assert ("EDIT" in body) <= ("marked EDIT" in header(text))


def test_one_version_of_ray_everywhere() -> None:
    version = pinned("ray")
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    (declared,) = re.findall(r'"(ray\[[^"]+)"', pyproject)
    assert version in Requirement(declared).specifier
    found = {
        (file.relative_to(CLUSTER).as_posix(), said)
        for file in FILES
        for said in re.findall(
            r"(?:rayproject/ray:|rayVersion: ['\"]?|ray==)([0-9]+\.[0-9]+\.[0-9]+)", file.read_text()
        )
    }
    assert {said for _, said in found} == {version}
    holders = {name for name, _ in found}
    assert holders == RAY_VERSION_HOLDERS


def test_our_images_carry_our_version() -> None:
    import prism_ray

    tags = [tag for file in FILES for tag in re.findall(r"\bprism-ray(?:-mlflow)?:([0-9][\w.]*)", file.read_text())]
    assert len(tags) > 10
    assert set(tags) == {prism_ray.__version__}


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(CLUSTER).as_posix() for file in FILES])
def test_images_are_pinned(file: Path) -> None:
    text = file.read_text()
    assert ":latest" not in text
    for image in re.findall(r"(?m)^\s*(?:- )?(?:image:|FROM)\s+(\S+)", text):
        stage = file.name == "Dockerfile" and re.fullmatch(r"ray-(cpu|gpu)", image)
        assert stage or re.search(r":[^/]*\d", image), f"{file}: {image} has no version"


@pytest.mark.parametrize("file", FILES, ids=[file.relative_to(CLUSTER).as_posix() for file in FILES])
def test_no_secret_is_written_down(file: Path) -> None:
    values = [found["value"] for found in SECRET.finditer(statements(file.read_text()))]
    assert not [value for value in values if not REFERENCES.search(value)]


@pytest.mark.parametrize(
    "line", ["password: hunter2", "POSTGRES_PASSWORD=mlflow", 'admin_password = "x"', "AUTH_TOKEN: abc"]
)
def test_a_written_secret_would_be_seen(line: str) -> None:
    (found,) = SECRET.finditer(line)
    assert not REFERENCES.search(found["value"])


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_scripts_are_clean(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    checked = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert "\nset -euo pipefail\n" in script.read_text()


def test_every_file_is_in_the_index() -> None:
    index = (CLUSTER / "README.md").read_text()
    for folder in sorted(path.name for path in CLUSTER.iterdir() if path.is_dir()):
        assert f"({folder}/" in index


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_launcher_files_pass_rays_own_validation(provider: str) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    written = yaml.safe_load((CLUSTER / "ray" / f"{provider}.yaml").read_text())
    validate_config(prepare_config(written))
    with pytest.raises(ValidationError, match="idle_minutes"):
        validate_config(prepare_config(written | {"idle_minutes": 5}))


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_launched_clusters_are_closed_and_their_heads_stay(provider: str) -> None:
    written = yaml.safe_load((CLUSTER / "ray" / f"{provider}.yaml").read_text())
    head, workers = written["available_node_types"]["head"], written["available_node_types"]["spot-gpu"]
    assert (head["resources"], head["labels"]) == ({"CPU": 0}, {"ray.io/market-type": "on-demand"})
    assert workers["labels"] == {"ray.io/market-type": "spot"}
    assert (workers["min_workers"], workers["resources"]["GPU"]) == (0, 1)
    if provider == "aws":
        assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert "InstanceMarketOptions" not in head["node_config"]
        # Without a group of its own Ray makes one that is open to the world at port 22.
        assert all(node["node_config"]["SecurityGroupIds"] for node in (head, workers))
    else:
        assert {"preemptible": True} in workers["node_config"]["scheduling"]
        assert "scheduling" not in head["node_config"]
    (start,) = [line for line in written["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--env RAY_AUTH_MODE=token" in written["docker"]["run_options"]
    assert written["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_images_install_with_the_pins() -> None:
    text = (CLUSTER / "docker" / "Dockerfile").read_text()
    installs = re.findall(r"pip install .*", text)
    assert len(installs) == 3
    assert all("--constraint" in line and "constraints.txt" in line for line in installs)
    (tested,) = re.findall(r"ran with, on Python (3\.\d+)\.", (REPOSITORY / "constraints.txt").read_text())
    assert set(re.findall(r"-py(\d+)", text)) == {tested.replace(".", "")}
    assert re.findall(r"FROM python:(3\.\d+)", text) == [tested]
