"""Murmuration: the processes of a run, what they say to each other, and the commands.

For scripts and notebooks (docs/python.md): `from runtime import Experiment, evaluate_policy,
load_policy`. They are imported when they are first asked for: whatever imports a part of this
package imports this file.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtime.own_packages import ForeignPackageError, check

if TYPE_CHECKING:
    from runtime.acting import load_policy as load_policy
    from runtime.experiment import Experiment as Experiment
    from runtime.experiment import evaluate_policy as evaluate_policy

try:
    check()
except ForeignPackageError as error:
    # While Python looks for the module of `python -m`, it calls the program "-m".
    if sys.argv[0].rpartition("/")[2] not in ("-m", "murmuration"):
        raise
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None

_FROM_PYTHON = {
    "Experiment": "runtime.experiment",
    "evaluate_policy": "runtime.experiment",
    "load_policy": "runtime.acting",
}


def __getattr__(name: str) -> Any:
    if name not in _FROM_PYTHON:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FROM_PYTHON[name]), name)
