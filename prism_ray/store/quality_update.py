"""The build's report after a signal was added to the store."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from prism_ray.store.quality import BuildReport, CellTypeReport
from prism_ray.store.schema import REPORT_FILE, StoreDescription


def update_report(store: Path, description: StoreDescription, cell_type: str, found: CellTypeReport) -> None:
    """Enter what was found in a signal into the store's report; nothing where the report is lost or damaged.

    Args:
        store: folder of the store.
        description: the store with the signal.
        cell_type: that it was added to.
        found: report of the cell type with that signal alone.
    """
    path = store / REPORT_FILE
    try:
        report = BuildReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        # What it says can be found again in the store, but for counts of bases; `store report` says which are lost.
        return
    old = report.cell_types[cell_type]
    update = {"signals": {**old.signals, **found.signals}, "collapses": (*old.collapses, *found.collapses)}
    changed = report.model_copy(
        update={
            "digest": description.digest(),
            "bytes": sum(entry.bytes for entry in description.all_files),
            "cell_types": {**report.cell_types, cell_type: old.model_copy(update=update)},
        }
    )
    changed.write(store)
