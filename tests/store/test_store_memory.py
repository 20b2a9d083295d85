"""Writing holds one row group at a time, however many genes a chromosome has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

WINDOW_BP, N_SIGNALS = 40_000, 8
ROW_GROUP_BYTES = 64 * WINDOW_BP * (4 * N_SIGNALS + 1)

# A process of its own: its highest memory is what is measured.
SCRIPT = f"""
import resource, sys
from pathlib import Path
import numpy as np
from prism_ray.store.layout import GeneRows
from prism_ray.store.write import PartitionWriter
from tests.store.factory import Recipe, make_rows

recipe = Recipe(window_bp={WINDOW_BP}, signals={{f"s{{i}}": "float32" for i in range({N_SIGNALS})}})
layout = recipe.layout("K562")
recipe.n_genes = 1
row = make_rows(recipe, "K562", "chr1")
with PartitionWriter(Path(sys.argv[1]), "K562", "chr1", layout) as writer:
    for part in layout.row_groups(int(sys.argv[2])):
        index = np.zeros(part.stop - part.start, dtype=np.int64)
        signals = {{name: values[index] for name, values in row.signals.items()}}
        writer.write(GeneRows(row.genes.iloc[index], row.scalars[index], row.sequence[index], signals))
    writer.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak_bytes(folder: Path, n_genes: int) -> int:
    command = [sys.executable, "-c", SCRIPT, str(folder / str(n_genes)), str(n_genes)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_does_not_grow_with_the_genes(tmp_path: Path) -> None:
    few, many = peak_bytes(tmp_path, 64), peak_bytes(tmp_path, 448)
    # Without a bound it would be six row groups more.
    assert many - few < 1.5 * ROW_GROUP_BYTES
