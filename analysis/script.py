"""What every script does: read its trials, draw one figure, write it with its table and a record beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from analysis.sources import Source, add_arguments, read_source, write_sidecar
from prism_ray.errors import PrismRayError
from prism_ray.report.figure import StudyFigure
from prism_ray.report.finalists import search_counts_sentence
from prism_ray.report.style import save_figure
from prism_ray.report.tables import count_trials
from prism_ray.report.text import counts_sentence


def run_script(
    name: str,
    about: str | None,
    draw: Callable[[Source], StudyFigure | None],
    argv: Sequence[str] | None,
    *,
    curve: str | None = None,
) -> int:
    """Write `name.pdf`, `.png`, `.csv` and `.json`.

    Args:
        name: of the script and its files.
        about: what `--help` says.
        draw: the figure of a source; None where there is nothing to show.
        argv: arguments; None for those of the process.
        curve: setting on the x axis of a --trials file, for a script that has one.

    Returns:
        0 where the figure was written, 1 where there was nothing to show, 2 where the input cannot be used.
    """
    parser = argparse.ArgumentParser(prog=f"python -m analysis.{name}", description=about)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_arguments(parser, curve=curve)
    args = parser.parse_args(argv)
    try:
        source = read_source(args)
        figure = draw(source)
    except PrismRayError as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 2
    counts = count_trials(source.own, source.header)
    print(search_counts_sentence(counts) if source.header.kind == "search" else counts_sentence(counts))
    if figure is None:
        print(f"{source.header.name} has nothing to draw here: {(about or name).splitlines()[0]}")
        return 1
    files = save_figure(figure.figure, figure.info, args.out, name, ("png", "pdf"))
    files.append(write_sidecar(source, files, args.out, name))
    print(figure.caption)
    print("\n".join(str(file) for file in files))
    return 0
