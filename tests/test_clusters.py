"""docs/clusters: manifests that render, validate, agree with each other and with the runtime."""

import base64
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.load import load_run_config, parse_command_line
from runtime.deployment.hosts import Hosts, load_hosts
from runtime.host.join import NodeCommand
from tests.manifests import PROJECT, Manifest, make, objects, only

CLUSTERS = PROJECT / "docs" / "clusters"
PERFORMANCE = (PROJECT / "docs" / "results" / "performance.md").read_text()
NUM_AGENTS = 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def manifests(home: Path) -> list[Manifest]:
    return make(home)


@pytest.fixture(scope="module")
def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The templates of pods, by their role."""
    workloads = {"head": only(manifests, "Job"), "node": only(manifests, "StatefulSet")}
    return {role: workload["spec"]["template"] for role, workload in workloads.items()}


@pytest.fixture
def hosts() -> Hosts:
    return load_hosts(CLUSTERS / "example" / "hosts.yaml", NUM_AGENTS)


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def selects(selector: dict[str, Any], labelled: Manifest) -> bool:
    return selector["matchLabels"].items() <= labelled["metadata"]["labels"].items()


# --- what a cluster would take --------------------------------------------------------------------


@pytest.fixture
def schemas() -> Any:
    """The package that knows Kubernetes's schemas."""
    return pytest.importorskip(
        "kubernetes_validate", reason='there is no kubernetes-validate (pip install -e ".[test]")'
    )


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_what_is_applied_fits_the_schemas_of_kubernetes(
    schemas: Any, manifests: list[Manifest], version: str
) -> None:
    reader = objects((CLUSTERS / "example" / "reader.yaml").read_text())
    for manifest in [*manifests, *reader]:
        schemas.validate(manifest, version, strict=True)


def test_a_manifest_with_a_misspelt_key_would_be_noticed(
    schemas: Any, manifests: list[Manifest]
) -> None:
    job = only(manifests, "Job")
    with pytest.raises(schemas.ValidationError, match="backofLimit"):
        schemas.validate({**job, "spec": {**job["spec"], "backofLimit": 3}}, "1.37", strict=True)


def test_everything_that_pods_mount_and_ask_for_is_there(
    manifests: list[Manifest], pods: dict[str, Manifest]
) -> None:
    there = {(found["kind"], found["metadata"]["name"]) for found in manifests}
    for pod in pods.values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for kind, entry, key in (
            ("Secret", "secret", "secretName"),
            ("ConfigMap", "configMap", "name"),
            ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
        ):
            wanted = [v[entry][key] for v in volumes.values() if entry in v]
            assert {(kind, name) for name in wanted} <= there
        for container in containers(pod):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
    assert {found["metadata"].get("namespace") for found in manifests} == {None, "murmuration"}


def test_with_the_operator_every_pod_is_scraped_under_the_name_that_the_rules_know(
    home: Path,
) -> None:
    commented = (CLUSTERS / "example" / "kustomization.yaml").read_text()
    lines = "# components:\n#   - ../kubernetes/monitoring\n"
    assert lines in commented
    monitored = commented.replace(lines, lines.replace("# ", "").replace("#", ""))
    manifests = make(home / "monitored", kustomization=monitored)
    monitor, service = only(manifests, "ServiceMonitor"), only(manifests, "Service")
    assert selects(monitor["spec"]["selector"], service)
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    # The operator takes the service's name for the job's.
    (job,) = yaml.safe_load((PROJECT / "docs/monitoring/prometheus.yml").read_text())[
        "scrape_configs"
    ]
    assert service["metadata"]["name"] == job["job_name"]


# --- who is found where ---------------------------------------------------------------------------


def test_hosts_are_the_pods_under_the_names_that_the_service_gives_them(
    manifests: list[Manifest], pods: dict[str, Manifest], hosts: Hosts
) -> None:
    service, nodes = only(manifests, "Service"), only(manifests, "StatefulSet")
    head = pods["head"]["spec"]
    names = [f"{nodes['metadata']['name']}-{i}" for i in range(nodes["spec"]["replicas"])]
    names.insert(0, head["hostname"])
    domain = service["metadata"]["name"]
    assert domain == nodes["spec"]["serviceName"] == head["subdomain"]
    assert [(host.name, host.address) for host in hosts.hosts] == [
        (name, f"{name}.{domain}") for name in names
    ]
    assert hosts.head == head["hostname"]
    assert f"--join={hosts[hosts.head].address}" in pods["node"]["spec"]["containers"][0]["args"]
    assert all(selects({"matchLabels": service["spec"]["selector"]}, pod) for pod in pods.values())


def test_pods_that_wait_for_each_other_are_started_and_named_at_once(
    manifests: list[Manifest],
) -> None:
    assert only(manifests, "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"
    service = only(manifests, "Service")["spec"]
    assert service["publishNotReadyAddresses"] is True
    assert service["clusterIP"] == "None"


def test_the_runs_options_are_some_and_agree_with_the_hosts(hosts: Hosts) -> None:
    config = load_run_config(["--config", str(CLUSTERS / "example" / "run.yaml")])
    assert config.num_agents == hosts.num_agents == NUM_AGENTS
    assert config.env.name == "battle"
    assert config.learner.threads == config.env.shards == 1


# --- who may talk to whom: docs/security.md -------------------------------------------------------


def open_ports(manifests: list[Manifest], pod: Manifest, way: str, to: str) -> set[int]:
    """Ports that policies open to (or from) members of the run, or a namespace."""
    found: set[int] = set()
    for policy in (m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"):
        if not selects(policy["podSelector"], pod):
            continue
        for rule in policy.get(way, []):
            (peer,) = rule["from" if way == "ingress" else "to"]
            ((kind, selector),) = peer.items()
            labels = selector["matchLabels"]
            name = labels.get("kubernetes.io/metadata.name", labels.get("app.kubernetes.io/name"))
            assert (kind == "podSelector") == (name == "murmuration")
            if name == to:
                for port in rule["ports"]:
                    found |= set(range(port["port"], port.get("endPort", port["port"]) + 1))
    return found


def test_members_of_the_run_reach_each_others_sockets_and_nothing_else(
    manifests: list[Manifest], pods: dict[str, Manifest], hosts: Hosts
) -> None:
    listening: dict[str, set[int]] = {}
    for host in hosts.hosts:
        role = "head" if host.name == hosts.head else "node"
        names = hosts.identities_on(host.name)
        ports = {int(hosts.endpoint(name).rpartition(":")[2]) for name in names}
        listening[role] = listening.get(role, set()) | ports
        inward = open_ports(manifests, pods[role], "ingress", "murmuration")
        assert ports <= inward
        assert all(port >= 7408 for port in inward - ports), "but for agents that there may be"
    everybody = set[int]().union(*listening.values())
    for pod in pods.values():
        assert everybody <= open_ports(manifests, pod, "egress", "murmuration")
        assert open_ports(manifests, pod, "ingress", "monitoring") == {9464}
        assert open_ports(manifests, pod, "egress", "kube-system") == {53}
    assert {7401, 7402, 7403} & open_ports(
        manifests, pods["node"], "ingress", "murmuration"
    ) == set()
    types = [m["spec"]["policyTypes"] for m in manifests if m["kind"] == "NetworkPolicy"]
    assert ["Ingress", "Egress"] in types, "what is not opened is closed"


def bundles_in(secret: Manifest) -> Iterator[tuple[str, set[str]]]:
    for name, data in secret["data"].items():
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(data))) as archive:
            yield name, {member.name.split("/")[0] for member in archive.getmembers()}
            modes = {m.name.rpartition("/")[2]: m.mode for m in archive.getmembers()}
            assert modes["keys.json"] == 0o600


def test_each_secret_holds_the_bundles_of_its_pods_and_of_no_others(
    manifests: list[Manifest],
) -> None:
    head = dict(bundles_in(only(manifests, "Secret", "murmuration-head")))
    nodes = dict(bundles_in(only(manifests, "Secret", "murmuration-nodes")))
    assert head == {"murmuration-head.tar": {"murmuration-head"}}
    names = [f"murmuration-node-{i}" for i in range(3)]
    assert nodes == {f"{name}.tar": {name} for name in names}


def test_what_is_made_by_the_page_is_closed_to_others(
    home: Path, manifests: list[Manifest]
) -> None:
    assert manifests, "it has been made"
    with_keys = [*home.rglob("*.tar"), *home.rglob("rendered.yaml"), *home.rglob("keys.json")]
    assert len(with_keys) >= 4 + 1 + 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in with_keys)


def test_only_the_init_container_sees_a_secret(pods: dict[str, Manifest]) -> None:
    for pod in pods.values():
        (main,) = pod["spec"]["containers"]
        mounted = {mount["name"] for mount in main["volumeMounts"]}
        (secret,) = (volume["name"] for volume in pod["spec"]["volumes"] if "secret" in volume)
        assert secret not in mounted
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_pods_have_no_rights_and_a_root_that_cannot_be_written(pods: dict[str, Manifest]) -> None:
    """As the namespace demands: pod-security.kubernetes.io/enforce: restricted."""
    (reader,) = objects((CLUSTERS / "example" / "reader.yaml").read_text())
    image = (CLUSTERS / "Dockerfile").read_text()
    for pod in (*pods.values(), reader):
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in image
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


# --- how long, how much ---------------------------------------------------------------------------


def test_one_node_at_a_time_is_taken_away(
    manifests: list[Manifest], pods: dict[str, Manifest]
) -> None:
    budget = only(manifests, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert selects(budget["selector"], pods["node"])
    assert not selects(budget["selector"], pods["head"])


def test_a_node_that_waits_for_its_head_is_not_taken_for_a_hung_one(
    pods: dict[str, Manifest],
) -> None:
    (node,) = pods["node"]["spec"]["containers"]
    arguments = parse_command_line(NodeCommand, node["args"], prog="node")
    probe = node["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > arguments.timeout_s


def column(table: str, name: str, row: str) -> float:
    """A figure of docs/results/performance.md."""
    (body,) = re.findall(rf"^### {table}\n(.+?)(?=^##|\Z)", PERFORMANCE, re.MULTILINE | re.DOTALL)
    head, _, *rows = (line for line in body.splitlines() if line.startswith("|"))
    names = [cell.strip() for cell in head.split("|")]
    (cells,) = (line.split("|") for line in rows if line.startswith(row))
    return float(cells[names.index(name)].replace(",", "").split("(")[0])


def amount(text: str) -> float:
    """Kubernetes's quantities: processors, or MiB."""
    number = float(re.sub(r"[A-Za-z]", "", text))
    units = {"m": 1e-3, "Mi": 1.0, "Gi": 1024.0, "": 1.0}
    return number * units[re.sub(r"[\d.]", "", text)]


def test_pods_ask_for_what_was_measured(pods: dict[str, Manifest], hosts: Hosts) -> None:
    row = "| battle | 20 | 32 |"
    agent_steps_s = 20 * column("Lock-step rollouts", "Murmuration", row)
    cpu = {name: column("Cpu of an agent-step", name, row) for name in ("agent", "its I/O thread")}
    an_agent = sum(cpu.values()) * 1e-6 * agent_steps_s / 20
    world = column("Cpu of an agent-step", "world", row) * 1e-6 * agent_steps_s
    learner = 1.0
    pss = column("Packets, bytes, memory, start", "PSS", row)
    for role, more in (("head", learner + world), ("node", 0.0)):
        (container,) = pods[role]["spec"]["containers"]
        asked = container["resources"]["requests"]
        agents = max(
            len(h.agents) for h in hosts.hosts if (h.name == hosts.head) == (role == "head")
        )
        needed = more + agents * an_agent
        assert needed <= amount(asked["cpu"]) <= 1.5 * needed
        assert amount(asked["memory"]) >= 1.5 * agents * pss
        limits = container["resources"]["limits"]
        assert "cpu" not in limits, "an agent that is held up holds up all"
        assert amount(limits["memory"]) > amount(asked["memory"])
