"""The manifests of docs/clusters, run as a kubelet would: four pods train, the head is moved."""

import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from runtime.record.json_lines import last_record
from tests.manifests import Manifest, make, only
from tests.process.namespaces import Hosts, require_hosts
from tests.process.pods import Pod, probe
from tests.process.runs import wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

NUM_AGENTS = 20
RUN = """
num_agents: 20
steps: 100000000
env: {name: relay, copies: 4, shards: 1}
learner: {threads: 1}
evaluation: {interval_steps: 0}
runtime: {start_timeout_s: 120.0}
"""


class Cluster:
    """The example's pods, each on a host of its own."""

    def __init__(
        self, hosts: Hosts, manifests: list[Manifest], folder: Path, sockets: Path
    ) -> None:
        self._hosts = hosts
        objects = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
        nodes = only(manifests, "StatefulSet")
        job = only(manifests, "Job")["spec"]["template"]
        self.head = Pod(
            hosts["h"], "murmuration-head-x7k2p", job, objects, folder / "h", sockets / "h"
        )
        self.nodes = [
            Pod(
                hosts[f"n{rank}"],
                f"{nodes['metadata']['name']}-{rank}",
                nodes["spec"]["template"],
                objects,
                folder / f"n{rank}",
                sockets / f"n{rank}",
            )
            for rank in range(nodes["spec"]["replicas"])
        ]
        self.names = {"h": f"{job['spec']['hostname']}.{job['spec']['subdomain']}"}
        for rank in range(len(self.nodes)):
            service = nodes["spec"]["serviceName"]
            self.names[f"n{rank}"] = f"{nodes['metadata']['name']}-{rank}.{service}"
        self.publish()

    @classmethod
    @contextlib.contextmanager
    def start(cls, folder: Path) -> Generator["Cluster"]:
        require_hosts()
        manifests = make(folder / "home", run=RUN)
        sockets = Path(tempfile.mkdtemp(prefix="pods-"))  # Unix sockets want a short path
        try:
            with Hosts.create("h", "n0", "n1", "n2") as hosts:
                for host in hosts:
                    (sockets / host.name).mkdir()
                yield cls(hosts, manifests, folder, sockets)
        finally:
            shutil.rmtree(sockets)

    def publish(self) -> None:
        """As the headless service does."""
        self._hosts.publish(self.names)

    @property
    def pods(self) -> list[Pod]:
        return [self.head, *self.nodes]

    def run_folder(self) -> Path:
        (folder,) = self.head.folder.glob("volumes/runs/a-job/*")
        return folder

    def figure(self, name: str) -> float:
        for path in self.head.folder.glob("volumes/runs/a-job/*/metrics.jsonl"):
            return float((last_record(path) or {}).get(name, 0.0))
        return 0.0

    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_folder() / "summary.json").read_text())

    def wait_until_learning(self, updates: int = 0) -> None:
        def learns() -> bool:
            assert self.head.newest.poll() is None, self.head.output()
            up = self.figure("agent/up") == NUM_AGENTS
            return up and self.figure("learner/updates") > updates

        wait_for("the run to learn", learns, 90.0)

    def evict(self, pod: Pod) -> int:
        """SIGTERM to the container's first process, and its exit code."""
        os.kill(pod.first_process(), signal.SIGTERM)
        return pod.newest.wait(pod_grace_s(pod))


def pod_grace_s(pod: Pod) -> float:
    return float(pod.template["spec"]["terminationGracePeriodSeconds"])


@pytest.mark.slow
def test_pods_train_and_a_head_that_is_moved_goes_on_where_it_was(tmp_path: Path) -> None:
    with Cluster.start(tmp_path) as cluster:
        for node in cluster.nodes:  # first, as they may be anywhere
            node.start()
        cluster.head.start()
        cluster.wait_until_learning()
        for pod in cluster.pods:
            status = Path(f"/proc/{pod.first_process()}/status").read_text()
            assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
            assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE)
            assert probe(pod, "livenessProbe")
            wait_for("a pod to be ready", lambda pod=pod: probe(pod, "readinessProbe"))
        for node in cluster.nodes:
            (bundle,) = (node.folder / "murmuration" / "bundles").iterdir()
            assert (bundle / "keys.json").stat().st_uid == 10001, "its own bundle, and no other's"
            assert not (node.folder / "murmuration" / "secret").exists()

        assert cluster.evict(cluster.head) == 130
        for node in cluster.nodes:
            assert node.newest.wait(30.0) == 0, node.output()
            node.restart()
        stopped = cluster.summary()
        assert stopped["env_steps"] > 0
        cluster.head.host.move_to("10.77.0.99")
        cluster.publish()
        cluster.head.start()
        cluster.wait_until_learning(updates=int(stopped["learner_updates"]))

        assert cluster.evict(cluster.nodes[0]) == 0, "one that takes part leaves in good order"
        assert cluster.evict(cluster.head) == 130
        assert cluster.summary()["env_steps"] > stopped["env_steps"]
        cluster.nodes[0].restart()  # and waits for a head
        wait_for("the node to look for its head", lambda: "joining" in cluster.nodes[0].output())
        assert cluster.evict(cluster.nodes[0]) == 130
        for pod in cluster.pods:
            pod.newest.wait(30.0)
            wait_for("the pod to be empty", lambda pod=pod: not pod.host.pids(), 10.0)
            assert "Traceback" not in pod.output()
