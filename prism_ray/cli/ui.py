"""`prism-ray ui`: MLflow's UI on a workspace's store."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from prism_ray.cli.options import add_storage


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `ui` to the command's parser."""
    parser = subparsers.add_parser(
        "ui",
        help="open MLflow on the runs of a workspace",
        description="Serve MLflow's UI on the store of a workspace, for this machine alone, until Ctrl-C. Of a store "
        "that has a server already its address is printed.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="study whose page is printed (default: all of them)")
    add_storage(parser)
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else the SQLite file in the storage folder)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="interface to listen at (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=5000, help="port, 0 for any (default 5000)")
    parser.add_argument("--expose", action="store_true", help="let --host be one that other machines reach")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Serve until the process is told to end; 0 then."""
    from prism_ray.tracking import fetch_study, redact, resolve_tracking_uri
    from prism_ray.tracking.ui_server import Place, check_place, server_address, ui_server
    from prism_ray.tracking.views import experiment_link

    uri = resolve_tracking_uri(args.tracking_uri, (args.storage or Path("results")).absolute())
    if uri.startswith("http"):
        print(f"this store has a server: open {redact(uri)}")
        return 0
    place = check_place(Place(args.host, args.port), expose=args.expose)
    study = fetch_study(uri, args.name) if args.name else None
    # SIGTERM is to end the server as Ctrl-C does, and a shell starts what runs in the background without SIGINT.
    before = {number: signal.signal(number, _as_interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with ui_server(uri, place) as server:
            print(f"serving   {redact(uri)}")
            print(f"open      {server_address(place)}/{experiment_link(study.experiment_id) if study else ''}")
            print("end it with Ctrl-C", flush=True)
            return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt
