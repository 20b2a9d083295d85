"""The import tables of docs/architecture.md, the size of files and what `--help` loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "prism_ray"
FILES = sorted(PACKAGE.rglob("*.py"))

# Lower floors may be imported by higher ones; rooms of one floor do not import each other.
FLOORS = [
    {"errors", "machine", "sizes"},
    {"documents"},
    {"metrics", "config", "splits"},
    {"features", "workload"},
    {"model", "store"},
    {"training", "tracking", "statistics", "study"},
    {"distributed", "report"},
    {"api"},
    {"cli"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Third-party packages that only some places may import.
ONLY_IN = {
    "ray": ["distributed/"],
    "torch": ["model/", "training/", "distributed/"],
    "numba": ["model/", "statistics/rank_sums.py"],
    "llvmlite": ["model/"],
    "triton": ["model/scan/triton_"],
    "safetensors": ["model/"],
    "mlflow": ["tracking", "distributed/served_model.py"],
    "pyBigWig": ["features/signals.py", "features/simulate"],
    "cooler": ["features/contacts.py", "features/simulate"],
    "h5py": ["features/gene_windows.py"],
    "pybigtools": ["features/fast_readers.py"],
    "pyfaidx": ["features/sequence.py"],
    "pysam": ["features/sequence.py"],
    "pyarrow": ["store/", "distributed/"],
    "optuna": ["distributed/spaces.py", "distributed/searcher.py", "distributed/search_", "report/"],
    "sqlalchemy": ["tracking", "distributed/search_storage.py"],
    "yaml": ["documents.py"],
    "matplotlib": ["report/"],
}


def imports_of(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room_of(module: str) -> str | None:
    """Room of a dotted module of the package; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else None


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def test_every_room_has_a_floor() -> None:
    rooms = {relative(file).split("/")[0].removesuffix(".py") for file in FILES} - {"__init__", "__main__"}
    assert rooms <= set(FLOOR_OF)


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_imports_go_down_only(file: Path) -> None:
    room = relative(file).split("/")[0].removesuffix(".py")
    if room not in FLOOR_OF:
        return
    for module in imports_of(file):
        if module.split(".")[0] != "prism_ray":
            continue
        other = room_of(module)
        if other is not None and other != room:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{relative(file)} imports {module}"


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_third_party_imports_stay_in_their_rooms(file: Path) -> None:
    for module in imports_of(file):
        allowed = ONLY_IN.get(module.split(".")[0])
        if allowed is not None:
            assert any(relative(file).startswith(place) for place in allowed), f"{relative(file)} imports {module}"


def test_package_does_not_import_analysis() -> None:
    for file in FILES:
        assert not any(module.split(".")[0] == "analysis" for module in imports_of(file)), file


def test_files_are_small() -> None:
    long = {relative(file): len(file.read_text().splitlines()) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines > 500} == {}


def test_public_functions_and_classes_have_docstrings() -> None:
    missing = []
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                if ast.get_docstring(node) is None:
                    missing.append(f"{relative(file)}: {node.name}")
    assert missing == []


def said_by(script: str) -> str:
    """What a script prints in a process of its own, which has loaded nothing yet and ends well."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_help_is_quick_and_loads_no_heavy_package() -> None:
    script = (
        "import sys\n"
        "from prism_ray.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as done:\n"
        "    assert done.code == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'matplotlib', 'pandas', 'pyarrow', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    said = said_by(script)
    for command in ("simulate", "catalog", "build", "store", "train", "predict", "run", "report"):
        assert re.search(rf"^\s+{command}\b", said, re.MULTILINE), command


def test_processes_that_read_load_no_pytorch_and_those_that_train_no_mlflow() -> None:
    """Each process of a run on several workers would load them anew; of these processes one tracks."""
    script = (
        "import sys\n"
        "import prism_ray.distributed.streaming, prism_ray.distributed.ingest\n"
        "assert not {'torch', 'mlflow'} & set(sys.modules)\n"
        "import prism_ray.distributed.train\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    said_by(script)


def test_help_takes_no_longer_than_python_with_pydantic_and_yaml() -> None:
    """A time alone depends on the machine: the command may cost twice what its two light imports cost."""

    def seconds(code: str) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        return min(times)

    light = seconds("import argparse, pydantic, yaml")
    assert seconds("from prism_ray.cli import make_parser; make_parser().format_help()") < 2 * light + 0.2


def test_no_machine_path_or_registry_in_tracked_text() -> None:
    shown = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        pytest.skip("not a git checkout")
    machine_path = re.compile(r"/(home|root|work)/[a-z]|--(extra-)?index-url")
    for name in shown.stdout.splitlines():
        file = REPOSITORY / name
        if file.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".sh", ""} and file.is_file():
            if file != Path(__file__).resolve():
                assert not machine_path.search(file.read_text()), name
