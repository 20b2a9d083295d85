"""`prism-ray ui` and MLflow's pages of a study: which arm won is said first, and curves are compared by arm.

One server for all tests of this file, in the order that they stand in: the last one stops it.
"""

from __future__ import annotations

import math
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psutil
import pytest

from prism_ray.report.build import write_report
from prism_ray.tracking import MlflowTracker, fetch_study
from prism_ray.tracking.views import ARMS_VIEW, SEEDS_VIEW, run_link, view_link
from tests.browser import Browser, chromium
from tests.conftest import REPOSITORY
from tests.mlflow_server import runs_of
from tests.tracking_support import STUDY, fresh_store, trial_header
from tests.ui_process import started_ui

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PICTURES = REPOSITORY / "build" / "screenshots"
COMPARED = replace(STUDY, arms=("n0", "n1", "n2"), seeds=(2, 22, 222), n_trials=9)
ANSWER = "Lowest mean test/mse: n2, 0.1860 over 3 runs; difference from n0 -0.0800"


@dataclass(frozen=True)
class Served:
    """The process of `prism-ray ui`, the page that it printed, and the study's numbers in MLflow."""

    process: subprocess.Popen[str]
    page: str
    experiment_id: str
    run_id: str

    @property
    def server(self) -> str:
        """Address, without a slash at its end."""
        return self.page.partition("/#")[0]


@dataclass(frozen=True)
class Shown:
    """A window on what is served, and the part of the printed page's address behind the server's."""

    browser: Browser
    page: str
    experiment_id: str
    run_id: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A finished study of nine trials with curves and its report."""
    folder = tmp_path_factory.mktemp("shown")
    uri = fresh_store(folder)
    tracker = MlflowTracker(uri)
    parent = tracker.open_study(COMPARED, {"study.yaml": "question: ...\n"})
    for number, arm in enumerate(COMPARED.arms):
        for place, seed in enumerate(COMPARED.seeds):
            log = tracker.open_trial(parent, trial_header(arm, seed, study=COMPARED))
            for step in range(10, 101, 10):
                error = 0.3 - 0.04 * number + 0.01 * place + math.exp(-step / 30)
                log.log({"val/mse": error, "train/loss": error + 0.1}, step)
            # Differences between the seeds' pairs, so that an interval has a width.
            log.log({"test/mse": 0.256 - 0.04 * number + 0.01 * place + 0.001 * number * (place - 1)}, 100)
            log.finish("FINISHED")
    tracker.close_study(parent, "FINISHED", {})
    write_report(uri, COMPARED.name, folder / "report")
    study = fetch_study(uri, COMPARED.name)
    with started_ui(folder, COMPARED.name) as (process, page):
        yield Served(process, page, study.experiment_id, study.run_id)


@pytest.fixture(scope="module")
def shown(served: Served) -> Iterator[Shown]:
    """A browser on the study's store."""
    with chromium(served.server) as browser:
        yield Shown(browser, served.page.removeprefix(f"{served.server}/"), served.experiment_id, served.run_id)


def test_it_serves_the_workspace_on_loopback(served: Served) -> None:
    assert served.page.startswith("http://127.0.0.1:")
    assert len(runs_of(served.server, COMPARED.name)[1]) == 9
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(served.page, timeout=60) as answer:
        assert b"<title>MLflow</title>" in answer.read()


def test_the_experiment_says_first_which_arm_won_and_by_how_much(shown: Shown) -> None:
    shown.browser.open(shown.page)
    text = shown.browser.until_shown(ANSWER, f"{COMPARED.name}-", "10 matching runs")
    shown.browser.keep(PICTURES / "experiment.png")
    # Before any run, and not only in the unfolded description.
    assert text.index(ANSWER) < text.index("Run Name")


def test_the_parent_run_holds_question_table_and_command(shown: Shown) -> None:
    shown.browser.open(run_link(shown.experiment_id, shown.run_id))
    shown.browser.until_shown(COMPARED.question, ANSWER, "arm/n2/test_mse_difference", "Show more")
    shown.browser.click("Show more")
    text = shown.browser.until_shown("95 % interval of it", "prism-ray run confounder_count", "Claim: Two are enough.")
    shown.browser.keep(PICTURES / "parent.png")
    assert "baseline" in text


@pytest.mark.parametrize(("view", "n_curves"), [(ARMS_VIEW, 3), (SEEDS_VIEW, 9)])
def test_curves_are_compared_by_arm_and_by_seed(shown: Shown, view: str, n_curves: int) -> None:
    browser = shown.browser
    browser.open(view_link(shown.experiment_id, view))
    browser.until_shown("val/mse", "train/loss", "test/mse", "Group: ")
    browser.until(lambda: browser.n_curves("val/mse") >= n_curves and browser.n_curves("train/loss") >= n_curves)
    browser.keep(PICTURES / f"{view}.png")
    assert (browser.n_curves("val/mse"), browser.n_curves("train/loss")) == (n_curves, n_curves)
    assert "Error loading" not in browser.text()


def test_the_report_is_among_the_artifacts(shown: Shown) -> None:
    browser = shown.browser
    browser.open(run_link(shown.experiment_id, shown.run_id, "artifacts/report/report.html"))
    frame = browser.until(lambda: browser.driver.find_elements("tag name", "iframe"))[0]
    browser.driver.switch_to.frame(frame)
    browser.until_shown(COMPARED.question, ANSWER, "Arms")
    browser.driver.switch_to.default_content()
    browser.keep(PICTURES / "report.png")
    assert {"report.md", "table.csv", "study.yaml"} <= set(browser.text().split())


def test_ctrl_c_leaves_no_process(served: Served) -> None:
    children = psutil.Process(served.process.pid).children(recursive=True)
    assert children
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
