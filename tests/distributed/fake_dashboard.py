"""A head's dashboard of which a test says how it misbehaves: Ray's job API on loopback, without Ray."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeDashboard:
    """What the dashboard answers, and what it was told.

    Attributes:
        versions: Ray's and Python's.
        resources: of its one node.
        status, text: of every answer, where it is no 200.
        jobs: by submission id, as Ray's API shows them.
        taken: ids that are used just before their submission arrives, by the jobs that took them.
    """

    versions: dict[str, str]
    resources: dict[str, float] = field(default_factory=lambda: {"CPU": 4.0})
    status: int = 200
    text: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    address: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and content of an answer."""
        if self.status != 200:
            return self.status, self.text
        if path.startswith("/api/packages/"):
            return 200, ""
        if path == "/api/version":
            return 200, {
                "version": "4",
                "ray_version": self.versions["rayVersion"],
                "ray_commit": "",
                "session_name": "",
            }
        if path == "/api/v0/cluster_metadata":
            return 200, {"result": True, "msg": "", "data": self.versions}
        if path.startswith("/api/v0/nodes"):
            node = {"state": "ALIVE", "node_ip": "10.0.0.2", "resources_total": self.resources}
            dead = {"state": "DEAD", "resources_total": {"GPU": 8.0}}
            return 200, {"result": True, "msg": "", "data": {"result": {"result": [node, dead]}}}
        if path == "/api/jobs/" and method == "GET":
            return 200, list(self.jobs.values())
        if path == "/api/jobs/":
            return self._submitted(json.loads(body))
        return self._one(path.removeprefix("/api/jobs/"))

    def _submitted(self, asked: dict[str, Any]) -> tuple[int, Any]:
        name = asked["submission_id"]
        self.jobs |= self.taken
        if name in self.jobs:
            return 500, f"Job with submission_id {name} already exists."
        self.jobs[name] = job(name, "RUNNING", **{key: asked[key] for key in ("entrypoint", "metadata", "runtime_env")})
        return 200, {"job_id": name, "submission_id": name}

    def _one(self, rest: str) -> tuple[int, Any]:
        name, _, what = rest.partition("/")
        if name not in self.jobs:
            return 404, f"Job {name} does not exist"
        if what == "stop":
            self.jobs[name]["status"] = "STOPPED"
            return 200, {"stopped": True}
        return (200, {"logs": "step 1\n"}) if what == "logs" else (200, self.jobs[name])


def job(name: str, status: str, **more: Any) -> dict[str, Any]:
    """A job as Ray's API shows it."""
    return {"type": "SUBMISSION", "submission_id": name, "status": status, "entrypoint": "", "start_time": 1, **more}


@contextmanager
def serving(dashboard: FakeDashboard) -> Iterator[FakeDashboard]:
    """Serve a dashboard for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = dashboard.answer(self.command, self.path, body)
            text = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    dashboard.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield dashboard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
