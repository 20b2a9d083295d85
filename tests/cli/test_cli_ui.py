"""`prism-ray ui`: the right store, loopback alone unless told, and nothing left after Ctrl-C."""

from __future__ import annotations

import signal
import socket
import urllib.request
from pathlib import Path

import psutil
import pytest

from prism_ray.cli import main
from prism_ray.errors import InputError
from prism_ray.tracking.ui_server import Place, check_place
from tests.mlflow_server import runs_of
from tests.tracking_support import STUDY, fresh_store, track_study, trial_header
from tests.ui_process import started_ui


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_kept_out_unless_told(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fresh_store(tmp_path)
    assert main(["ui", "--storage", str(tmp_path), "--host", host]) == 2
    assert f"--host {host}: can be reached from other machines" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "expose"), [(Place("127.0.0.1", 0), False), (Place("0.0.0.0", 0), True)])
def test_what_may_be_listened_at(place: Place, expose: bool) -> None:
    settled = check_place(place, expose=expose)
    assert settled.host == place.host
    assert settled.port > 0


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be listened at"):
            check_place(Place("127.0.0.1", taken.getsockname()[1]), expose=False)


def test_a_store_with_a_server_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    assert main(["ui"]) == 0
    assert capsys.readouterr().out == "this store has a server: open https://***@mlflow.example.org\n"


def test_a_workspace_without_a_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--storage", str(tmp_path), "--port", "0"]) == 2
    assert "mlflow.db: does not exist; run a study first" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_serves_the_workspace_and_leaves_no_process(tmp_path: Path) -> None:
    uri = fresh_store(tmp_path)
    track_study(uri, STUDY, [(trial_header(), {"test/mse": 0.25}, "FINISHED")])
    with started_ui(tmp_path, STUDY.name) as (process, page):
        server = page.partition("/#")[0]
        assert page.startswith("http://127.0.0.1:")
        assert len(runs_of(server, STUDY.name)[1]) == 1
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(page, timeout=60) as answer:
            assert b"<title>MLflow</title>" in answer.read()
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
