"""`prism-ray doctor`: what this machine offers, for whoever wonders why training is slow or does not start."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from prism_ray.sizes import size_text

if TYPE_CHECKING:
    from prism_ray.model.doctor import Diagnosis

DONE, MISSING = 0, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the command's parser."""
    parser = subparsers.add_parser(
        "doctor",
        help="libraries, devices, and which kernel runs the model here and why",
        description="Say what is installed against what is required, which devices there are, which kernel runs on "
        "each and why not the others, and test that kernel. Exit code 2 where something required is missing.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; returns the exit code."""
    from prism_ray.model.doctor import diagnose

    found = diagnose()
    if args.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        for line in (*_libraries(found), *_devices(found), *_verdict(found)):
            print(line)
    return DONE if found.ok else MISSING


def _libraries(found: Diagnosis) -> list[str]:
    lines = ["libraries"]
    for library in (found.python, *found.libraries):
        mark = "ok     " if library.ok else "MISSING" if library.found is None else "WRONG  "
        lines.append(f"  {mark} {library.name:<14} {library.found or '-':<18} needs {library.needed or 'any version'}")
    return lines


def _devices(found: Diagnosis) -> list[str]:
    lines = []
    for device in found.devices:
        memory = "" if device.memory_bytes is None else f", {size_text(device.memory_bytes)}"
        lines += ["", f"{device.name}: {device.model}{memory}; {device.note}"]
        for state in found.kernels:
            if state.device == device.name:
                mark = "active" if state.active else "idle  " if state.available else "absent"
                lines.append(f"  {mark} {state.kernel:<10} {state.reason}")
        for test in found.self_tests:
            if test.device == device.name:
                said = test.problem
                if test.value_error is not None:
                    errors = f"value error {test.value_error:.1e}, gradient error {test.gradient_error:.1e}"
                    said = f"{errors} against the reference"
                lines.append(f"  {'passed' if test.ok else 'FAILED'} self-test of {test.kernel}: {said}")
    return lines


def _verdict(found: Diagnosis) -> list[str]:
    wrong = [library.name for library in (found.python, *found.libraries) if not library.ok]
    wrong += [f"{test.kernel} on {test.device}" for test in found.self_tests if not test.ok]
    return ["", "all that is required is here" if found.ok else f"to mend: {', '.join(wrong)}"]
