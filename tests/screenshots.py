"""Pictures of the demo's study in MLflow for README.md: `make screenshots`.

python -m tests.screenshots WORKSPACE OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from prism_ray.tracking import default_tracking_uri, fetch_study
from prism_ray.tracking.views import ARMS_VIEW, run_link, view_link
from tests.browser import chromium
from tests.ui_process import started_ui

STUDY = "smoke"


def main(workspace: Path, out: Path) -> None:
    """Take the picture of the arms side by side and that of the parent run's answer."""
    study = fetch_study(default_tracking_uri(workspace), STUDY)
    with started_ui(workspace, STUDY) as (_, page), chromium(page.partition("/#")[0]) as browser:
        browser.open(view_link(study.experiment_id, ARMS_VIEW))
        browser.until_shown("val/mse", "train/loss", "Group: ")
        browser.until(lambda: browser.n_curves("val/mse") == len(study.header.arms))
        browser.keep(out / "mlflow-arms.png")
        browser.open(run_link(study.experiment_id, study.run_id))
        browser.until_shown(study.header.question, "Show more")
        browser.click("Show more")
        browser.until_shown("95 % interval of it")
        browser.keep(out / "mlflow-answer.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
