"""The version that a host was pushed, beside the one that its bundle was made with.

    offered policy -> stage -> keep -> update.safetensors -> newest_policy, when the host starts

The bundle's own files stay as they were made, with their checksums. A pushed version is one file
more: it checks itself, comes and goes in one rename, and names its deployment, so that one that has
been left behind by an older deployment is not taken for ours.
"""

import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from agents.policy import PolicyFile, PolicyFileError, load_agents_policy, save_policy
from agents.policy import write_atomically as write
from runtime.net.errors import SetupError

NAME = "update.safetensors"
_OFFERED = "offered-update.safetensors"
_DEPLOYMENT = "deployment"
"""In what a policy file says of its training: the deployment that it was pushed to."""


def addressed(policy: PolicyFile, deployment: str, version: int) -> PolicyFile:
    """The policy under that version number, for one deployment alone."""
    trained = {**policy.trained, _DEPLOYMENT: deployment}
    return replace(policy, version=version, trained=MappingProxyType(trained))


def deployment_of(policy: PolicyFile) -> str:
    """The deployment that a policy was pushed to; empty: none."""
    return policy.trained.get(_DEPLOYMENT, "")


def newest_policy(folder: Path, deployment: str, made_with: PolicyFile) -> PolicyFile:
    """What a host begins with: the version that it was pushed, or that of its bundle.

    Args:
        folder: where pushed versions are kept.

    Raises:
        SetupError: there is one, and it is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return made_with
    try:
        pushed = load_agents_policy(path)
    except PolicyFileError as error:
        raise SetupError(f"{error}: remove it to begin with the bundle's own version") from error
    is_ours = deployment_of(pushed) == deployment and pushed.spec == made_with.spec
    return pushed if is_ours else made_with


class UpdateFile:
    """A host's folder of pushed versions."""

    def __init__(self, folder: Path) -> None:
        self._kept, self._offered = folder / NAME, folder / _OFFERED

    def stage(self, content: bytes) -> PolicyFile:
        """Write an offered policy where a restart does not look for it, and read it.

        Raises:
            OSError: it cannot be written.
            PolicyFileError: it is no policy that agents can act by.
        """
        write(self._offered, content)
        return load_agents_policy(self._offered)

    def keep(self) -> None:
        """Begin with the staged version after a restart.

        Raises:
            OSError: it cannot be kept.
        """
        self._offered.replace(self._kept)
        folder = os.open(self._kept.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def keep_instead(self, policy: PolicyFile) -> None:
        """Begin with this version after a restart.

        Raises:
            OSError: it cannot be kept.
        """
        save_policy(self._kept, policy)

    def drop(self) -> None:
        """Forget the staged version."""
        self._offered.unlink(missing_ok=True)
