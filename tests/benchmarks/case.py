"""One measurement: parameters in, figures out, in an interpreter of its own.

    Case (plain dataclass) -> JSON on the command line -> python -m MODULE -> measure -> JSON line

A fresh interpreter for each, so that peak memory is the case's own, no thread pool or context of
an earlier one is left, and a crash costs one row.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

from tests.benchmarks.machine import ROOT

Figures = Mapping[str, float | None]
"""Names with their units (`steps_per_s`, `pss_mb`), and numbers; None is not known."""

_PREFIX = "figures: "
_STOP_S = 15.0


class CaseError(RuntimeError):
    """A case could not be measured; the text is the end of what its process printed."""


class IsDataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C", bound=IsDataclass)


def as_dict(case: IsDataclass) -> dict[str, Any]:
    return dataclasses.asdict(cast("Any", case))


def run_case(
    module: str,
    case: IsDataclass,
    *,
    timeout_s: float,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> dict[str, float | None]:
    """Measure in a new process group, of which nothing is left afterwards.

    Args:
        module: whose main is `serve`.
        case: its parameters.
        python: another interpreter.
        environment: on top of our own.
        folder: checkout that the module is taken from.

    Raises:
        CaseError: it failed, or took longer than `timeout_s`.
    """
    process = subprocess.Popen(
        command_of(module, case, python),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        process.send_signal(signal.SIGINT)  # a run of ours takes everything down with it
        raise CaseError(f"took longer than {timeout_s:.0f} s") from error
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        raise
    finally:
        _clear_away(process)
    return figures_in(output, process.returncode)


def command_of(module: str, case: IsDataclass, python: str = sys.executable) -> list[str]:
    """What serves a case, as a command line.

    Only what is not the default is said: an older commit, which does not know every parameter,
    serves a case without the newer ones.
    """
    plain, given = as_dict(case), dict[str, Any]()
    for field in dataclasses.fields(cast("Any", case)):
        if plain[field.name] != field.default:
            given[field.name] = plain[field.name]
    return [python, "-m", module, json.dumps(given)]


def figures_in(output: str, returncode: int | None) -> dict[str, float | None]:
    """What a process that serves a case has printed.

    Raises:
        CaseError: there are no figures in it.
    """
    for line in reversed(output.splitlines()):
        if line.startswith(_PREFIX):
            return json.loads(line.removeprefix(_PREFIX))
    raise CaseError(output.strip()[-2000:] or f"ended with {returncode} and said nothing")


def _clear_away(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def serve(case_type: type[C], measure: Callable[[C], Figures]) -> None:
    """The other end: measure the case on the command line and print its figures."""
    case = case_type(**json.loads(sys.argv[1]))
    figures = measure(case)
    print(_PREFIX + json.dumps(dict(figures)), flush=True)
