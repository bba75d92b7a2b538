"""The manifests of `deploy/kubernetes`.

Each file, and the output of kubectl with the patches of overlays and components, is validated with
the schemas of Kubernetes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import redis
import yaml

from ocr_tasks import cli, extensions, metrics, supervisor
from tests.conftest import RIGHTS, free_port, wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"

#: The oldest version that the manifests support, and the newest one that the validator knows.
VERSIONS = ("1.30", kubernetes_validate.latest_version())

#: Kinds without a schema of Kubernetes.
_OF_OTHERS = ("kustomize.config.k8s.io/", "keda.sh/")

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.yaml"))
KUSTOMIZATIONS = [name for name in FILES if name.endswith("kustomization.yaml")]
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())

#: What can be applied: the base, the overlays, the base with all components, and the example of the
#: how-to guide.
TARGETS = ["base", "overlays/single-node", "components", "mine"]

#: libyaml's loader, which is ten times as fast.
LOADER = yaml.CSafeLoader

Manifest = dict[str, Any]


@cache
def documents(name: str) -> list[Manifest]:
    """Returns the documents of a file; they must not be changed."""
    return list(yaml.load_all((FOLDER / name).read_text(), LOADER))


def manifests() -> Iterator[Manifest]:
    for name in FILES:
        if name not in KUSTOMIZATIONS:
            yield from documents(name)


def pods(found: Iterable[Manifest]) -> dict[str, Manifest]:
    """Returns the specs of the pods, by the name of the resource that creates them."""
    return {
        row["metadata"]["name"]: row["spec"]["template"]["spec"]
        for row in found
        if row["kind"] in ("Deployment", "StatefulSet")
    }


def named(kind: str, name: str) -> Manifest:
    (row,) = [r for r in manifests() if r["kind"] == kind and r["metadata"]["name"] == name]
    return row


def variables(pod: Manifest) -> dict[str, str]:
    """Returns the environment of a pod's container, including shared settings."""
    (container,) = pod["containers"]
    shared = named("ConfigMap", "settings")["data"] if "envFrom" in container else {}
    return shared | {row["name"]: row["value"] for row in container.get("env", [])}


def volumes(pod: Manifest, kind: str) -> list[Manifest]:
    return [volume for volume in pod["volumes"] if kind in volume]


def port_of(pod: Manifest) -> int:
    (port,) = pod["containers"][0]["ports"]
    return int(port["containerPort"])


@pytest.fixture(params=TARGETS)
def built(request: pytest.FixtureRequest, tmp_path: Path) -> list[Manifest]:
    """Returns kubectl's output for a target."""
    program = shutil.which("kubectl")
    assert program, "kubectl is not installed; scripts/setup --dev installs it"
    said = subprocess.check_output([program, "version", "--client", "--output=json"], timeout=60)
    if int(re.sub(r"\D", "", json.loads(said)["clientVersion"]["minor"])) < 21:
        pytest.skip("components need kubectl 1.21 or newer; Debian 12 has 1.20")
    folder = FOLDER / request.param
    if not folder.joinpath("kustomization.yaml").exists():
        shutil.copytree(FOLDER, tmp_path / "k")
        folder = tmp_path / "k/chosen"
        folder.mkdir()
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../base"],
            "components": [f"../components/{name}" for name in COMPONENTS],
        }
        if request.param == "mine":
            content = yaml.load(example(), LOADER)
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    made = subprocess.run(
        [program, "kustomize", folder], capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    return list(yaml.load_all(made.stdout, LOADER))


def example() -> str:
    """Returns the kustomization of the how-to guide."""
    text = (ROOT / "docs/how-to/kubernetes.md").read_text()
    found = re.search(r"<!-- built by .*?```yaml\n(.*?)```", text, re.DOTALL)
    assert found
    return textwrap.dedent(found[1])


def check_schema(found: Iterable[Manifest]) -> None:
    for row in found:
        for version in VERSIONS:
            if not row["apiVersion"].startswith(_OF_OTHERS):
                kubernetes_validate.validate(row, version, strict=True)


def check_hardening(found: Iterable[Manifest]) -> None:
    for name, pod in pods(found).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name  # they would be variables like REDIS_PORT
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert not volumes(pod, "hostPath"), name
        user = pod["securityContext"]
        assert (user["runAsNonRoot"], user["runAsUser"], user["runAsGroup"]) == (True, 10001, 10001)
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}, name
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][bound].keys(), name
        assert {"livenessProbe", "startupProbe"} <= container.keys(), name
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert all("sizeLimit" in v["emptyDir"] for v in volumes(pod, "emptyDir")), name
        for volume in volumes(pod, "secret"):
            assert volume["secret"]["defaultMode"] == 0o440
            assert volume["secret"]["items"], "only what this part needs"


def test_each_file_matches_the_schemas_of_kubernetes() -> None:
    check_schema(manifests())


def test_the_schemas_are_applied() -> None:
    row = deepcopy(named("Deployment", "web"))
    row["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        check_schema([row])


def test_each_file_belongs_to_a_kustomization_and_exists() -> None:
    used = set()
    for name in KUSTOMIZATIONS:
        (content,) = documents(name)
        for other in (*content.get("resources", []), *content.get("components", [])):
            path = (FOLDER / name).parent / other
            assert path.exists(), f"{name} names {other}"
            used.add(path.resolve().relative_to(FOLDER).as_posix())
    alone = set(FILES) - set(KUSTOMIZATIONS) - used
    assert alone == {"ingress.example.yaml"}


def test_the_output_of_each_kustomization_matches_the_schemas_of_kubernetes(
    built: list[Manifest],
) -> None:
    check_schema(built)
    check_hardening(built)
    apart = [row for row in built if row["kind"] != "Namespace"]
    assert {row["metadata"]["namespace"] for row in apart} == {"ocr-tasks"}
    claims = {row["metadata"]["name"] for row in built if row["kind"] == "PersistentVolumeClaim"}
    wanted = [v for pod in pods(built).values() for v in volumes(pod, "persistentVolumeClaim")]
    assert {volume["persistentVolumeClaim"]["claimName"] for volume in wanted} == claims


def test_pods_are_restricted() -> None:
    check_hardening(manifests())
    labels = named("Namespace", "ocr-tasks")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_each_component_gets_only_the_secrets_that_it_needs(tmp_path: Path) -> None:
    given = {
        name: {item["key"] for v in volumes(pod, "secret") for item in v["secret"]["items"]}
        for name, pod in pods(manifests()).items()
    }
    assert given == {
        "redis": {"redis_acl"},
        "web": {"ocr_redis_password", "ocr_webhook_secrets"},
        "worker": {"ocr_redis_password"},
        "courier": {"ocr_redis_password", "ocr_webhook_secrets"},
        "flower": {"ocr_redis_password", "ocr_flower_password"},
    }
    subprocess.run([ROOT / "scripts/make-env", tmp_path], check=True, capture_output=True)
    assert set.union(*given.values()) <= {path.name for path in (tmp_path / "secrets").iterdir()}
    assert not [row for row in manifests() if row["kind"] == "Secret"]


def test_settings_in_the_manifests_exist() -> None:
    text = "\n".join((FOLDER / name).read_text() for name in FILES)
    groups = extensions.settings_groups()
    known = {f"OCR_{name.upper()}" for group in groups for name in group.model_fields}
    assert set(re.findall(r"\bOCR_[A-Z0-9_]+", text)) - known == set()
    secrets = set(re.findall(r"\bocr_[a-z0-9_]+", text)) - {"ocr_worker_processes_wanted"}
    assert {name.upper() for name in secrets} - known == set()
    for pod in pods(manifests()).values():
        given = {k.removeprefix("OCR_").lower(): v for k, v in variables(pod).items()}
        for group in groups:
            group(**given)


def test_roles_exist() -> None:
    commands = {title.partition(":")[0] for title in cli.describe()}
    for name, pod in pods(manifests()).items():
        (container,) = pod["containers"]
        if name != "redis":
            assert container["image"] == "ocr-tasks"
            assert container["args"] == [name]
            assert name in commands
    assert [row["name"] for row in documents("base/kustomization.yaml")[0]["images"]] == [
        "ocr-tasks"
    ]


def test_ports_agree() -> None:
    specs = pods(manifests())
    assert variables(specs["web"])["OCR_PORT"] == str(port_of(specs["web"]))
    assert variables(specs["flower"])["OCR_FLOWER_PORT"] == str(port_of(specs["flower"]))
    assert urlsplit(variables(specs["worker"])["OCR_REDIS_URL"]).port == port_of(specs["redis"])
    for row in manifests():
        if row["kind"] == "Service":
            (port,) = row["spec"]["ports"]
            (to,) = specs[row["metadata"]["name"]]["containers"][0]["ports"]
            assert (port["targetPort"], port["port"]) == (to["name"], to["containerPort"])
    for policy, part in (("redis-from-ours", "redis"), ("to-web", "web")):
        (rule,) = named("NetworkPolicy", policy)["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == [port_of(specs[part])]


def test_a_stopping_worker_has_time_to_release_its_jobs() -> None:
    pod = pods(manifests())["worker"]
    takes = int(variables(pod)["OCR_STOP_SECONDS"]) + supervisor.STOP_GRACE
    assert pod["terminationGracePeriodSeconds"] > takes


def test_pods_may_only_connect_to_what_they_need() -> None:
    nobody = named("NetworkPolicy", "nobody")["spec"]
    assert nobody == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = {
        row["metadata"]["name"]: row["spec"]["template"]["metadata"]["labels"]
        for row in manifests()
        if row["kind"] in ("Deployment", "StatefulSet")
    }
    ways_out = {name for name, of in labels.items() if of.get("ocr-tasks/way-out") == "true"}
    assert ways_out == {"web", "courier"}
    ours = {name for name, of in labels.items() if of.get("ocr-tasks/uses-redis") == "true"}
    assert ours == {"web", "worker", "courier", "flower"}
    four, six = named("NetworkPolicy", "to-the-public")["spec"]["egress"][0]["to"]
    for private in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"):
        assert private in four["ipBlock"]["except"]
    for private in ("fc00::/7", "fe80::/10", "::ffff:0:0/96"):
        assert private in six["ipBlock"]["except"]


@pytest.mark.usefixtures("service")
def test_workers_are_scaled_by_the_metric_of_this_project() -> None:
    row = named("ScaledObject", "worker")
    (trigger,) = row["spec"]["triggers"]
    asked = trigger["metadata"]
    host = f"web.{named('Namespace', 'ocr-tasks')['metadata']['name']}.svc"
    web = port_of(pods(manifests())["web"])
    assert asked["url"] == f"http://{host}:{web}/metrics"
    assert asked["valueLocation"] in {family.name for family in metrics.registry().collect()}
    assert row["spec"]["scaleTargetRef"]["name"] == "worker"
    worker = pods(manifests())["worker"]
    cores = worker["containers"][0]["resources"]["limits"]["cpu"]
    assert asked["targetValue"] == variables(worker)["OCR_WORKER_PROCESSES"] == cores
    allowed = named("TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert [row["parameter"] for row in allowed["spec"]["secretTargetRef"]] == ["token"]
    assert asked["authMode"] == "bearer"


def test_redis_runs_with_the_arguments_of_the_manifest(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/make-env", tmp_path], check=True, capture_output=True)
    (container,) = pods(manifests())["redis"]["containers"]
    (tmp_path / "data").mkdir()
    there = {"/run/secrets/ocr-tasks/": f"{tmp_path}/secrets/", "/data": f"{tmp_path}/data"}
    words = [
        re.sub("|".join(there), lambda found: there[found[0]], word) for word in container["args"]
    ]
    port = free_port()
    program = shutil.which(words[0])
    assert program
    process = subprocess.Popen(
        [program, *words[1:], "--port", str(port), "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
    )
    try:
        health = redis.Redis(port=port, username="health", password="none")
        wait_until(lambda: answers(health))
        with pytest.raises(redis.exceptions.NoPermissionError):
            health.get("ocr:jobs")
        password = (tmp_path / "secrets/ocr_redis_password").read_text()
        ours = redis.Redis(port=port, username="ocr", password=password, decode_responses=True)
        assert ours.info("persistence")["aof_enabled"] == 1
        assert ours.info("memory")["maxmemory_policy"] == "noeviction"
        assert ours.info("memory")["maxmemory"] == 768 * 1024 * 1024
        with pytest.raises(redis.exceptions.NoPermissionError):
            ours.config_get("*")
        assert RIGHTS in (tmp_path / "secrets/redis_acl").read_text()
    finally:
        process.terminate()
        process.wait()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
