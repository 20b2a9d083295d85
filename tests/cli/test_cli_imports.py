"""Which heavy packages a command may load: each costs its user a part of a second up to two, before the first line."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import ray

from tests.distributed.fake_dashboard import FakeDashboard, serving
from tests.distributed.workspaces import done, launch
from tests.store.factory import Recipe, make_store
from tests.study.texts import ABLATION, changed

# Ray Tune, Train and Data are counted apart from Ray itself, which is a third of a second.
HEAVY = ("torch", "mlflow", "sqlalchemy", "optuna", "matplotlib", "scipy", "numba", "pandas", "pyarrow")
HEAVY += ("ray", "ray.tune", "ray.train", "ray.data")
TABLES = {"pandas", "pyarrow"}

# One process runs them all, which must therefore stand in an order in which each may load what those before it may.
RUN_ALL = """
import contextlib, gc, io, json, sys
from prism_ray.cli import main

commands, heavy = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for argv in commands:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(argv)
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, sorted(set(heavy) & set(sys.modules)), said.getvalue()]))
assert gc.get_threshold()[0] >= 10_000, "looking for garbage takes a fifth of the time that loading takes"
"""


def test_commands_load_what_they_need_and_no_more(tmp_path: Path) -> None:
    make_store(tmp_path / "store", Recipe(window_bp=200))
    (tmp_path / "asked.yaml").write_text(
        changed(ABLATION, ("  model.d_model: 16\n", "  model.d_model: 16\n  data.window_bp: 200\n"))
    )
    launch(tmp_path / "results", 1)
    done(tmp_path / "results", 0, 0.5)
    store, storage = ["--store", str(tmp_path / "store")], ["--storage", str(tmp_path / "results")]
    nowhere = ["--store", str(tmp_path / "nowhere"), *storage]
    with serving(FakeDashboard({"rayVersion": ray.__version__, "pythonVersion": platform.python_version()})) as head:
        address = ["--address", head.address]
        tracked = ["--tracking-uri", "http://127.0.0.1:5000", "--yes"]
        # Command, exit code, what it may load.
        table: list[tuple[list[str], int, set[str]]] = [
            (["run", "--help"], 0, set()),
            (["study", "list"], 0, set()),
            (["study", "show", "asked.yaml"], 0, set()),
            (["status", "tiny", *storage], 0, set()),
            (["plan", "asked.yaml", *store, *storage], 0, TABLES),
            (["run", "another", *store, *storage], 2, TABLES),
            (["check", "another", *store, *storage], 2, TABLES),
            (["resume", "another", *storage], 2, TABLES),
            (["cancel", "tiny", *storage], 0, TABLES),
            (["run", "asked.yaml", *nowhere], 2, {*TABLES, "ray"}),
            (["submit", "asked.yaml", *store, *storage, *address, *tracked], 0, {*TABLES, "ray"}),
            (["logs", "asked", *address], 0, {*TABLES, "ray"}),
        ]
        commands = json.dumps([argv for argv, _, _ in table])
        ran = subprocess.run(
            [sys.executable, "-c", RUN_ALL, commands, json.dumps(HEAVY)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(answers) == len(table)
    for (argv, expected, may_load), (code, loaded, said) in zip(table, answers, strict=True):
        assert code == expected, (argv, said)
        assert set(loaded) <= may_load, argv
    assert any(name.startswith("prism-asked-") for name in head.jobs)
