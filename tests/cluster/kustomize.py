"""What `kubectl kustomize` makes of the folders under cluster/kuberay, for the few of its features that they use.

Where kubectl is installed, a test compares the two.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches"}
Manifest = dict[str, Any]


def documents(file: Path) -> list[Manifest]:
    """All YAML documents of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document is not None]


def build(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization: its resources, patched, in its namespace."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = kustomization.keys() - KNOWN
    assert not unknown, f"{folder}: this resolver does not know {unknown}"
    made: list[Manifest] = []
    for name in kustomization["resources"]:
        place = (folder / name).resolve()
        made += build(place) if place.is_dir() else documents(place)
    for patch in kustomization.get("patches", []):
        made = [_patched(one, patch) for one in made]
    for one in made:
        one["metadata"]["namespace"] = kustomization["namespace"]
    return made


def _patched(manifest: Manifest, patch: dict[str, Any]) -> Manifest:
    assert patch.keys() == {"target", "patch"}
    assert patch["target"].keys() == {"kind"}
    if manifest["kind"] != patch["target"]["kind"]:
        return manifest
    # Anchors share one object between places, which a patch must not change in all of them.
    return jsonpatch.apply_patch(copy.deepcopy(manifest), yaml.safe_load(patch["patch"]))
