"""Pods without a cluster: what a kubelet would make of a template, in a network namespace.

    template, objects -> volumes as folders, environment -> init containers -> the main container

Paths of the container begin anew below a folder of the pod's. Its network and its DNS name are its
own; root file system, user and limits are not.
"""

import base64
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.manifests import Manifest, environment
from tests.process.namespaces import Host

INSIDE = "/murmuration/"
"""What is below it in a container is below the pod's folder here."""


class Pod:
    """One pod, and its later lives under the same name: what volumes of claims hold stays."""

    def __init__(
        self,
        host: Host,
        name: str,
        template: Manifest,
        objects: Mapping[tuple[str, str], Manifest],
        folder: Path,
        sockets: Path,
    ) -> None:
        """Args:
        objects: Secrets and ConfigMaps, by kind and name.
        sockets: a folder with a short path, in place of /tmp.
        """
        self.host = host
        self._name = name
        self.template = template
        self._objects = objects
        self.folder = folder
        self._sockets = sockets
        self.lives: list[subprocess.Popen[str]] = []
        self._populate()

    @property
    def main(self) -> Manifest:
        (container,) = self.template["spec"]["containers"]
        return container

    @property
    def newest(self) -> subprocess.Popen[str]:
        return self.lives[-1]

    def output(self, life: int = -1) -> str:
        count = range(len(self.lives))[life]
        return (self.folder / f"log-{count}.txt").read_text()

    def start(self) -> None:
        """Run the init containers to their ends, and start the container."""
        for container in self.template["spec"].get("initContainers", []):
            self._mount(container)
            self.host.run(self._command(container), env=self._environment(container))
        self.restart()

    def restart(self) -> None:
        """Start the container anew, as a kubelet does when it has ended."""
        self._mount(self.main)
        log = self.folder / f"log-{len(self.lives)}.txt"
        self.lives.append(
            self.host.popen(
                self._command(self.main),
                cwd=self.folder,
                env=self._environment(self.main),
                output=log,
            )
        )

    def _populate(self) -> None:
        for volume in self.template["spec"]["volumes"]:
            place = self._volume(volume["name"])
            place.mkdir(parents=True, exist_ok=True)
            for entry, kind, key in (
                ("secret", "Secret", "secretName"),
                ("configMap", "ConfigMap", "name"),
            ):
                if entry in volume:
                    found = self._objects[kind, volume[entry][key]]
                    for name, text in found["data"].items():
                        content = base64.b64decode(text) if kind == "Secret" else text.encode()
                        (place / name).write_bytes(content)

    def _volume(self, name: str) -> Path:
        return self.folder / "volumes" / name

    def _mount(self, container: Manifest) -> None:
        """Exactly what this container mounts is there."""
        inside = self._here(INSIDE)
        inside.mkdir(parents=True, exist_ok=True)
        for link in inside.iterdir():
            link.unlink()
        for mount in container["volumeMounts"]:
            if mount["mountPath"].startswith(INSIDE):
                self._here(mount["mountPath"]).symlink_to(self._volume(mount["name"]))

    def _here(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def _environment(self, container: Manifest) -> dict[str, str]:
        return environment(TMPDIR=str(self._sockets), HOME="/tmp", **self._variables(container))

    def _variables(self, container: Manifest) -> dict[str, str]:
        found: dict[str, str] = {}
        for variable in container.get("env", []):
            if "value" in variable:
                found[variable["name"]] = self._expand(variable["value"], found)
            else:
                path = variable["valueFrom"]["fieldRef"]["fieldPath"]
                found[variable["name"]] = {
                    "metadata.name": self._name,
                    "status.podIP": self.host.address,
                    "metadata.labels['batch.kubernetes.io/controller-uid']": "a-job",
                }[path]
        return found

    def _command(self, container: Manifest) -> list[str]:
        variables = self._variables(container)
        words = [*container["command"], *container.get("args", [])]
        return [self._expand(word, variables) for word in words]

    def _expand(self, text: str, variables: Mapping[str, str]) -> str:
        """$(NAME), which Kubernetes replaces itself, and paths."""
        text = re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), text)
        return text.replace(INSIDE, f"{self.folder}{INSIDE}")


def probe(pod: Pod, name: str) -> bool:
    """Whether the kubelet would find the container well; asked in its namespace."""
    check = pod.main[name]["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in pod.main["ports"]}
    url = f"http://{pod.host.address}:{ports[check['port']]}{check['path']}"
    script = f"from urllib.request import urlopen; urlopen({url!r}, timeout=10)"
    done = pod.host.run([pod.host.python, "-c", script], env=dict(os.environ), check=False)
    return done.returncode == 0
