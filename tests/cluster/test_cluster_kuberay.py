"""The manifests under cluster/kuberay: by schema, and by what they promise."""

from __future__ import annotations

import copy
import functools
import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.cluster.kustomize import Manifest, build
from tests.conftest import REPOSITORY

KUBERAY = REPOSITORY / "cluster" / "kuberay"
SCHEMAS = REPOSITORY.parent / "shared" / "data" / "schemas"
FOLDERS = sorted(file.parent.relative_to(KUBERAY).as_posix() for file in KUBERAY.rglob("kustomization.yaml"))
RAY_FOLDERS = [folder for folder in FOLDERS if folder != "services"]
KUBERNETES = "1.33"


def strict(schema: Any) -> Any:
    """A copy of a schema that refuses the fields that it does not list."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@functools.cache
def ray_schema(kind: str) -> Any:
    """Checks a manifest of a kind; whether the schema is one itself is looked at once, which takes a second."""
    file = SCHEMAS / f"ray.io_v1_{kind.lower()}s.schema.json.gz"
    if not file.is_file():
        pytest.skip(f"the schemas of Ray's kinds are not at {SCHEMAS}")
    schema = json.loads(gzip.decompress(file.read_bytes()))
    schema["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "namespace": {"type": "string"}},
    }
    checked = jsonschema.validators.validator_for(schema)
    checked.check_schema(schema)
    return checked(strict(schema))


def ray_manifest(folder: str) -> Manifest:
    (made,) = build(KUBERAY / folder)
    return made


def cluster_spec(manifest: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    return spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]


def pods(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Pod specifications of a manifest."""
    spec = manifest.get("spec", {})
    if manifest["kind"] in ("Deployment", "StatefulSet"):
        yield spec["template"]["spec"]
    if manifest["kind"] in ("RayCluster", "RayJob"):
        ray = cluster_spec(manifest)
        yield from (group["template"]["spec"] for group in [ray["headGroupSpec"], *ray["workerGroupSpecs"]])
    if manifest["kind"] == "RayJob":
        yield spec["submitterPodTemplate"]["spec"]


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_ray_kinds_follow_their_schema(folder: str) -> None:
    manifest = ray_manifest(folder)
    schema = ray_schema(manifest["kind"])
    schema.validate(manifest)
    wrong = copy.deepcopy(manifest)
    cluster_spec(wrong)["headGroupSpec"]["template"]["spec"]["nodeSelektor"] = {}
    with pytest.raises(jsonschema.ValidationError, match="nodeSelektor"):
        schema.validate(wrong)


def test_core_kinds_follow_their_schema() -> None:
    made = build(KUBERAY / "services")
    for manifest in made:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    kinds = {manifest["kind"] for manifest in made}
    assert {"PersistentVolumeClaim", "StatefulSet", "Deployment", "Service", "NetworkPolicy"} <= kinds
    wrong = copy.deepcopy(made[0]) | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_resolve_as_kustomize_does(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(
        [kubectl, "kustomize", KUBERAY / folder], capture_output=True, text=True, check=True, timeout=60
    )

    def ordered(manifests: list[Manifest]) -> list[str]:
        return sorted(json.dumps(one, sort_keys=True) for one in manifests)

    assert ordered(list(yaml.safe_load_all(done.stdout))) == ordered(build(KUBERAY / folder))


@pytest.mark.parametrize("variant", ["", "overlays/cpu/", "overlays/gpu/"])
def test_a_batch_job_runs_on_the_same_cluster_as_people_do(variant: str) -> None:
    assert cluster_spec(ray_manifest(f"{variant}job")) == cluster_spec(ray_manifest(f"{variant}cluster"))


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_the_head_runs_no_trials_and_is_not_taken_away(folder: str) -> None:
    spec = cluster_spec(ray_manifest(folder))
    head, (workers,) = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["labels"] == {"ray.io/market-type": "on-demand"}
    assert head["template"]["spec"]["nodeSelector"] == {"prism-ray/pool": "on-demand"}
    assert workers["labels"] == {"ray.io/market-type": "spot"}
    assert workers["template"]["spec"]["nodeSelector"] == {"prism-ray/pool": "spot"}
    assert spec["enableInTreeAutoscaling"] is True
    assert (workers["minReplicas"], workers["replicas"]) == (0, 0)
    assert workers["maxReplicas"] > 0
    assert spec["autoscalerOptions"]["idleTimeoutSeconds"] > 0


@pytest.mark.parametrize("folder", RAY_FOLDERS)
def test_ray_asks_for_a_token_and_is_closed(folder: str) -> None:
    spec = cluster_spec(ray_manifest(folder))
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["networkPolicy"]["mode"] == "DenyAllIngress"
    assert spec["tlsOptions"] == {"enabled": True}


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder.startswith("overlays/gpu")])
def test_workers_of_the_gpu_overlay_have_one(folder: str) -> None:
    manifest = ray_manifest(folder)
    (workers,) = cluster_spec(manifest)["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["image"].endswith("-gpu")
    if manifest["kind"] == "RayJob":
        assert "--gpus-per-worker 1" in manifest["spec"]["entrypoint"]


def test_a_batch_job_cleans_up_and_writes_to_shared_storage() -> None:
    spec = ray_manifest("overlays/cpu/job")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["backoffLimit"] > 0
    words = spec["entrypoint"].split()
    assert words[:2] == ["prism-ray", "run"]
    flags = dict(zip(words[3::2], words[4::2], strict=True))
    assert flags["--tracking-uri"] == "http://mlflow:5000"
    for spec_of in pods(ray_manifest("overlays/cpu/job")):
        mounts = {mount["mountPath"] for mount in spec_of["containers"][0].get("volumeMounts", [])}
        assert spec_of["containers"][0]["name"] == "ray-job-submitter" or "/shared" in mounts
    assert all(flags[flag].startswith("/shared/") for flag in ("--store", "--storage"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_have_few_rights_and_the_memory_they_ask_for(folder: str) -> None:
    for manifest in build(KUBERAY / folder):
        for spec in pods(manifest):
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"]:
                rights = container["securityContext"]
                assert rights["allowPrivilegeEscalation"] is False
                assert rights["capabilities"] == {"drop": ["ALL"]}
                resources = container["resources"]
                assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_services_are_reached_by_those_who_need_them() -> None:
    made = build(KUBERAY / "services")
    policies = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "NetworkPolicy"}
    assert policies["no-way-in"] == {"podSelector": {}, "policyTypes": ["Ingress"]}

    def callers(name: str) -> Any:
        (rule,) = policies[name]["ingress"]
        (source,) = rule["from"]
        return source["podSelector"]["matchLabels"]

    assert callers("postgres") == {"app": "mlflow"}
    assert callers("mlflow") == {"ray.io/is-ray-node": "yes"}
    services = [one for one in made if one["kind"] == "Service"]
    assert all(one["spec"].get("type", "ClusterIP") == "ClusterIP" for one in services)
    labels = [
        one["spec"]["template"]["metadata"]["labels"] for one in made if one["kind"] in ("Deployment", "StatefulSet")
    ]
    assert all(one["spec"]["selector"] in labels for one in services)


def test_the_resolver_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\nnamePrefix: a-\n")
    with pytest.raises(AssertionError, match="namePrefix"):
        build(tmp_path)
