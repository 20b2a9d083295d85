"""How many background states: the curve of a metric against n, from a study or from a table of trials.

python -m analysis.state_count --study confounder_count --out figures
python -m analysis.state_count --trials trials.parquet --out figures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis.sources import add_arguments, read_source, write_sidecar
from prism_ray.errors import PrismRayError
from prism_ray.report.curve import curve_caption, curve_info, draw_curve
from prism_ray.report.style import save_figure
from prism_ray.report.tables import count_trials
from prism_ray.report.text import counts_sentence

NAME = "state_count"


def main(argv: Sequence[str] | None = None) -> int:
    """Write `state_count.pdf`, `.png`, `.csv` and `.json`; 2 where the input cannot be used."""
    parser = argparse.ArgumentParser(prog=f"python -m analysis.{NAME}", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_arguments(parser, curve="model.n_states")
    args = parser.parse_args(argv)
    try:
        source = read_source(args)
    except PrismRayError as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 2
    info = curve_info(source.trials, source.header)
    print(counts_sentence(count_trials(source.trials, source.header)))
    if not len(info):
        print(f"No finished trial has a {source.header.metric} at a number of {source.header.curve}: nothing to draw.")
        return 1
    files = save_figure(draw_curve(info, source.header), info, args.out, NAME, ("png", "pdf"))
    files.append(write_sidecar(source, files, args.out, NAME))
    print(curve_caption(info, source.header))
    print("\n".join(str(file) for file in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
