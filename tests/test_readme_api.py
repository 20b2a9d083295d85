"""The example of a study from Python, as the README shows it, runs: on a tiny genome, in this process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from prism_ray import api
from prism_ray.tracking import fetch_study, fetch_trials
from tests.conftest import REPOSITORY

HEADING = "## From Python"
EXAMPLE = """\
from prism_ray import api

study = api.load_study("smoke", overrides={"training.n_steps": 20})  # a file, or a name under search_spaces/
where = api.settings("demo/store", "results", backend=api.InProcessBackend())  # on Ray without the backend
assert all(check.ok for check in api.check(study, where))
print(api.plan(study, where).n_left, "trials are left to run")
outcome = api.run(study, where)  # does what is missing and repeats nothing; api.resume and api.retry go on by name
print(outcome.exit_code, outcome.failures)
print(api.status(study.name).counts["done"], "are done")  # from any process, api.cancel too
print(api.report(study.name).text)
"""


@pytest.mark.ray
def test_the_example_runs_and_says_what_it_replaced(
    simulated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "store").symlink_to(simulated_store)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(EXAMPLE, names)
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["4 trials are left to run", "0 {}", "4 are done"]
    assert any(line.startswith("n2") for line in said[3:])
    study, where = names["study"], names["where"]
    trials = fetch_trials(where.tracking_uri, study.name)
    assert len(trials) == 4
    assert set(trials["param/training.n_steps"]) == {20}
    # What `--set` replaces, too: it is another experiment, and its runs say why.
    assert study.name.startswith("smoke-set-")
    client = MlflowClient(where.tracking_uri)
    for run in (*trials["run_id"], fetch_study(where.tracking_uri, study.name).run_id):
        assert client.get_run(run).data.tags["prism.overrides"] == '{"training.n_steps": 20}'

    short = api.report(study.name, out=tmp_path / "short", formats=("md",))
    assert (tmp_path / "short" / "report.md").exists()
    assert not short.html.exists()

    again = api.resume(study.name, backend=api.InProcessBackend())
    assert (again.n_found, again.n_finished) == (4, 4)
    assert api.retry(study.name, backend=api.InProcessBackend()).exit_code == 0
    cancelled = api.cancel(study.name, wait_s=1.0)
    assert (cancelled.was_running, cancelled.status.counts["done"]) == (False, 4)
    assert api.plan(study, where).n_left == 0


def test_the_readme_shows_it() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert f"```python\n{EXAMPLE}```" in readme
    assert len(re.findall(r"^\S", EXAMPLE, re.MULTILINE)) <= 10
    assert readme.index(HEADING) < readme.index(EXAMPLE)
