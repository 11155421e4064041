"""Programs of Debian packages that tests need: installed by root if they are missing.

skip_reason(programs, packages) -> None, or why there are none
"""

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

_INSTALL_TIMEOUT_S = 240.0

_POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian's packages ask before they start a service (invoke-rc.d(8)); 101 forbids it."""


@functools.cache
def skip_reason(programs: tuple[str, ...], packages: tuple[str, ...]) -> str | None:
    """Why some of these programs are not to be had here; None if all are, by now."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return None
    if shutil.which("apt-get") is None:
        return f"there is no {missing[0]}, and no apt-get to install it with"
    if os.geteuid() != 0:
        return f"there is no {missing[0]}, and installing the Debian package needs root"
    with _no_services():
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            try:
                done = subprocess.run(
                    ["apt-get", *arguments],
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_INSTALL_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return f"apt-get {arguments[0]} took more than {_INSTALL_TIMEOUT_S:.0f} s"
            if done.returncode != 0:
                said = (done.stderr or done.stdout).strip().splitlines()
                why = said[-1] if said else "?"
                return f"the package {' and '.join(packages)} cannot be installed: {why}"
    return None


@contextlib.contextmanager
def _no_services() -> Generator[None]:
    """Packages installed meanwhile start nothing; a policy that is there decides by itself."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()
