"""`prism-ray ui`: the right store, and loopback alone unless told; what it serves is in tests/test_browser.py."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from prism_ray.cli import main
from prism_ray.errors import InputError
from prism_ray.tracking.ui_server import Place, check_place
from tests.tracking_support import fresh_store


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
