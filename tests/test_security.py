"""Code that runs what it reads is not in the source, and names lead nowhere but into their folders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from prism_ray.cli import main
from prism_ray.distributed.workspace import is_file_name, study_folder
from prism_ray.errors import InputError
from prism_ray.store.schema import added_folder
from prism_ray.study.arms import ARM_NAME
from prism_ray.study.load import load_study
from prism_ray.tracking import redact
from tests.conftest import REPOSITORY

SOURCES = [
    file for room in ("prism_ray", "analysis", "benchmarks") for file in sorted((REPOSITORY / room).rglob("*.py"))
]
# Calls that run, or may run, what they are given.
RUNS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
    ),
    *(
        "cloudpickle.load",
        "cloudpickle.loads",
        "dill.load",
        "dill.loads",
        "joblib.load",
        "marshal.loads",
        "shelve.open",
    ),
    *("pd.read_pickle", "pandas.read_pickle", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "subprocess.getoutput", "subprocess.getstatusoutput"),
    # No archive is unpacked anywhere: members that lead out of the folder cannot come in.
    *("tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive", "tempfile.mktemp"),
}
OUTSIDE = ["..", ".", "", "../x", "a/../../x", "/etc", "a/b", "..\\x", "a\0b"]


def dangers(text: str) -> list[str]:
    """What of a source runs what it is given, a line each."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in RUNS:
            found.append(f"{node.lineno}: {name}")
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(f"{node.lineno}: {name} without weights_only=True")
        if given.get("shell", "False") != "False" or given.get("allow_pickle", "False") != "False":
            found.append(f"{node.lineno}: {name} with shell or allow_pickle")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_no_source_runs_what_it_reads(file: Path) -> None:
    assert dangers(file.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "eval(x)",
        "pickle.loads(x)",
        "yaml.load(x)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
        "zipfile.ZipFile(x).extractall()",
    ],
)
def test_the_look_at_the_source_sees(text: str) -> None:
    assert dangers(text)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_a_folder(name: str, tmp_path: Path) -> None:
    assert not is_file_name(name)
    assert not ARM_NAME.fullmatch(name)
    with pytest.raises(InputError, match="is no name of a study"):
        study_folder(tmp_path, name)
    inside = Path(f"/store/{added_folder(name, name)}")
    assert inside.resolve().parent == Path("/store/added") or "\0" in name


@pytest.mark.parametrize("command", ["status", "cancel", "resume", "report"])
def test_commands_refuse_names_that_lead_out(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    assert main([command, "../../outside", "--storage", str(tmp_path / "results")]) == 2
    assert "study '../../outside': is no name of a study" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


@pytest.mark.parametrize("name", ["a b.yaml", "A.yaml", "-x.yaml", "..yaml", "x;y.yaml", "$x.yaml"])
def test_a_study_file_whose_name_is_no_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text((REPOSITORY / "search_spaces" / "smoke.yaml").read_text())
    with pytest.raises(InputError, match=re.escape("is no usable name")):
        load_study(path)


@pytest.mark.parametrize(
    "address",
    [
        "http://me:c4n4ry@h:1/x",
        "postgresql+psycopg2://c4n4ry@h/d",
        "https://c4n4ry:x@h",
        "run --tracking-uri http://c4n4ry:p@h",
    ],
)
def test_credentials_in_an_address_are_never_shown(address: str) -> None:
    assert "c4n4ry" not in redact(address)


def floors() -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (REPOSITORY / "security-floors.txt").read_text().splitlines())
    return {wanted.name: wanted for wanted in map(Requirement, filter(None, lines))}


def test_versions_with_known_faults_are_not_allowed() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    allowed = {wanted.name: wanted for wanted in map(Requirement, re.findall(r'"(.+)",', project))}
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    assert floors()
    for name, floor in floors().items():
        oldest = next(part.version for part in allowed[name].specifier if part.operator == ">=")
        assert floor.specifier.contains(oldest), f"pyproject.toml allows {name} {oldest}"
        assert floor.specifier.contains(pins[name])
