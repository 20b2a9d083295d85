"""What the UI shows of an experiment: the answer first, the study's views, and nobody's own words overwritten."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient

from prism_ray.tracking import MlflowTracker
from prism_ray.tracking.client import connect
from prism_ray.tracking.views import ARMS_VIEW, SEEDS_VIEW, VIEW_TAG
from tests.tracking_support import STUDY, fresh_store

NOTE = "mlflow.note.content"


@pytest.fixture
def tracker(tmp_path: Path) -> MlflowTracker:
    return MlflowTracker(fresh_store(tmp_path))


@pytest.fixture
def client(tracker: MlflowTracker) -> MlflowClient:
    return connect(tracker.uri)


def experiment(client: MlflowClient) -> Experiment:
    found = client.get_experiment_by_name(STUDY.name)
    assert found is not None
    return found


def test_the_question_first_and_the_answer_once_there_is_one(tracker: MlflowTracker, client: MlflowClient) -> None:
    parent = tracker.open_study(STUDY, {})
    assert experiment(client).tags[NOTE] == STUDY.question
    for answer in ("n2 is lower by 0.1.", "n2 is lower by 0.2."):
        tracker.publish(parent, files={}, answer=answer, note="| arm | mean |")
        written = experiment(client).tags[NOTE]
        first, links, table = written.split("\n\n")
        assert (first, table) == (answer, "| arm | mean |")
        number = experiment(client).experiment_id
        assert f"[arms](#/experiments/{number}/runs?" in links
        assert f"viewStateShareKey={ARMS_VIEW})" in links
        assert f"[report and files](#/experiments/{number}/runs/{parent}/artifacts?" in links


def test_what_somebody_wrote_there_stays(tracker: MlflowTracker, client: MlflowClient) -> None:
    parent = tracker.open_study(STUDY, {})
    number = experiment(client).experiment_id
    client.set_experiment_tag(number, NOTE, "Ours is better.")
    tracker.publish(parent, files={}, answer="n2 is lower.", note="")
    tracker.open_study(STUDY, {})
    assert experiment(client).tags[NOTE] == "Ours is better."


def test_a_description_is_cut_to_what_mlflow_keeps(tracker: MlflowTracker, client: MlflowClient) -> None:
    parent = tracker.open_study(STUDY, {})
    tracker.publish(parent, files={}, answer="n2 is lower.", note="α" * 10_000)
    written = experiment(client).tags[NOTE]
    assert written.startswith("n2 is lower.")
    assert written.endswith("(cut; see the run)")
    assert len(written.encode()) < 5000


def test_views_group_children_by_arm_and_seed(tracker: MlflowTracker, client: MlflowClient) -> None:
    tracker.open_study(STUDY, {})
    groups = {}
    for name in (ARMS_VIEW, SEEDS_VIEW):
        state = json.loads(json.loads(experiment(client).tags[f"{VIEW_TAG}{name}"])["state"])
        groups[name] = [key["groupByData"] for key in state["groupBy"]["groupByKeys"]]
        assert state["orderByKey"] == f"metrics.`{STUDY.metric}`"
        assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["test/mse", "val/mse", "train/loss"]
    assert groups == {ARMS_VIEW: ["prism.arm"], SEEDS_VIEW: ["prism.arm", "prism.seed"]}


def test_a_later_launch_sets_what_has_changed(tracker: MlflowTracker, client: MlflowClient) -> None:
    tracker.open_study(STUDY, {})
    tracker.open_study(replace(STUDY, metric="test/pearson_r", direction="maximize", study_digest="e" * 64), {})
    tags = experiment(client).tags
    assert tags["mlflow.experiment.primaryMetric.name"] == "test/pearson_r"
    assert tags["mlflow.experiment.primaryMetric.greaterIsBetter"] == "True"
    assert tags["mlflow.experimentKind"] == "custom_model_development"
