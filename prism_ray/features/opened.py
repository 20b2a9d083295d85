"""Tracks of one cell type, opened together: windows of all of them around the same genes.

N genes, L positions in bp.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prism_ray.features.blacklist import Blacklisted
from prism_ray.features.signals import SignalReader, open_signal
from prism_ray.features.source_parts import SignalSource
from prism_ray.features.strand import turn_track
from prism_ray.features.windows import Windows


class OpenedSignals:
    """Readers of some tracks; opened where they are used, never pickled.

    Args:
        sources: what the catalog says of each track, and its path, by name.
        chrom_sizes: length of each chromosome in bp.
        blacklist: regions in which tracks have no values; None for none.

    Raises:
        CatalogError: a file is missing, damaged or of another kind.
    """

    def __init__(
        self,
        sources: Mapping[str, tuple[SignalSource, Path]],
        chrom_sizes: Mapping[str, int],
        blacklist: Blacklisted | None,
    ) -> None:
        self._opened = ExitStack()
        self._readers: dict[str, SignalReader] = {
            name: self._opened.enter_context(open_signal(source, path, chrom_sizes, blacklist))
            for name, (source, path) in sources.items()
        }

    def windows(
        self, name: str, chrom: str, tss: NDArray[np.int64], window_bp: int, strand: NDArray[np.str_] | None = None
    ) -> Windows:
        """Values of a track in [tss - L/2, tss + L/2), (N, L).

        Args:
            name: of the track.
            chrom: of all TSSs.
            tss: (N,).
            window_bp: length L.
            strand: (N,) + or -, to turn the windows of genes on -; None to turn none.

        Raises:
            CatalogError: what is wrong with the file or its values.
        """
        found = self._readers[name].windows(chrom, tss, window_bp)
        return found if strand is None else Windows(turn_track(found.values, strand), found.n_missing)

    def close(self) -> None:
        """Close all files."""
        self._opened.close()
        self._readers = {}
