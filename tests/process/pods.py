"""Pods without a cluster: what a kubelet would make of a template, in a network namespace.

    template, objects -> volumes as folders, environment -> init containers -> the main container

Paths of the container begin anew below a folder of the pod's. It has the user, the rights and the
volumes that the template gives it, a network and a DNS name of its own, and a root that it cannot
write: the machine's, not an image's. Limits of memory are not set. As programs and folders of the
test may be closed to others, it may read everything. Its first process is number 1 there.
"""

import base64
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.manifests import Manifest, environment
from tests.process.namespaces import Host
from tests.process.runs import wait_for

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

    def first_process(self) -> int:
        """What a kubelet sends SIGTERM: number 1 inside, a child of `unshare` here."""
        unshare = self.newest.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children")
        (child,) = wait_for("the container to begin", lambda: children.read_text().split(), 20.0)
        return int(child)

    def output(self, life: int = -1) -> str:
        count = range(len(self.lives))[life]
        return (self.folder / f"log-{count}.txt").read_text()

    def start(self) -> None:
        """Run the init containers to their ends, and start the container."""
        for container in self.template["spec"].get("initContainers", []):
            self._mount(container)
            self.host.run(
                self._contained(container), cwd=self.folder, env=self._environment(container)
            )
        self.restart()

    def restart(self) -> None:
        """Start the container anew, as a kubelet does when it has ended."""
        self._mount(self.main)
        log = self.folder / f"log-{len(self.lives)}.txt"
        self.lives.append(
            self.host.popen(
                self._contained(self.main),
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
            self._own(place, volume)

    def _own(self, place: Path, volume: Manifest) -> None:
        """Volumes belong to root, and to the pod's group as far as that may do something there."""
        for path in (place, *place.iterdir()):
            os.chown(path, 0, self._context["fsGroup"])
            mode = volume.get("secret", {}).get("defaultMode", 0o644)
            path.chmod(0o2775 if path.is_dir() else mode)
        os.chown(self._sockets, 0, self._context["fsGroup"])
        self._sockets.chmod(0o2775)

    @property
    def _context(self) -> Manifest:
        return self.template["spec"]["securityContext"]

    def _contained(self, container: Manifest) -> list[str]:
        """The container's command, in its surroundings: `ip netns exec` has made mounts our own."""
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounts = [f"mount --bind {self._sockets} {self._sockets}"]
        for mount in container["volumeMounts"]:
            place = shlex.quote(str(self._volume(mount["name"])))
            mounts.append(f"mount --bind {place} {place}")
            if mount.get("readOnly"):
                mounts.append(f"mount -o remount,bind,ro {place}")
        mounts.append("mount -o remount,bind,ro /")
        user, group = self._context["runAsUser"], self._context["runAsGroup"]
        rights = f"--reuid {user} --regid {group} --groups {self._context['fsGroup']}"
        rights += " --no-new-privs --inh-caps=-all,+dac_read_search"
        rights += " --ambient-caps=-all,+dac_read_search"
        alone = "unshare --fork --pid --kill-child --mount-proc"
        script = "; ".join(mounts) + f'; exec {alone} setpriv {rights} "$@"'
        return ["sh", "-ec", script, "sh", *self._command(container)]

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
        return environment(
            TMPDIR=str(self._sockets), HOME=str(self._sockets), **self._variables(container)
        )

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
