"""Experiment trackers beside a run's own log: Weights & Biases, or trackio on this machine.

    RunLog.metrics, .evaluation, .summary -> Tracker -> wandb | trackio

`--track wandb` sends to its server, or writes into the run's folder with WANDB_MODE=offline;
`--track trackio` writes a database into TRACKIO_DIR. The project is `murmuration`, or what
WANDB_PROJECT or TRACKIO_PROJECT says; WANDB_RUN_GROUP and TRACKIO_RUN_GROUP name a group. A tracker
that fails costs a warning, and the run goes on without it.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import io
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from configs.schema import RunConfig, TrackerName
from runtime.net.errors import SetupError

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    def log(self, env_steps: int, values: Mapping[str, float]) -> None: ...

    def summary(self, values: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def require_tracker(name: TrackerName) -> None:
    """Check that the package is there.

    Raises:
        SetupError: it is not; the line names the extra.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise SetupError(f'--track {name} needs {name}: install it with pip install -e ".[track]"')


def open_tracker(name: TrackerName, directory: Path, config: RunConfig) -> Tracker | None:
    """Begin to track a run; None for none.

    Args:
        directory: the run's folder. A run that is resumed in it goes on under the same name.

    Raises:
        SetupError: the package is missing, or cannot begin.
    """
    if name == "none":
        return None
    require_tracker(name)
    begin = {"wandb": _Wandb, "trackio": _Trackio}[name]
    try:
        return _Guarded(name, begin(directory, dataclasses.asdict(config)))
    except Exception as error:  # whatever somebody else's package and its server come up with
        raise SetupError(
            f"--track {name} cannot begin ({' '.join(str(error).split())}): log in, or keep it on "
            "this machine with WANDB_MODE=offline or --track trackio"
        ) from error


def run_name(directory: Path) -> str:
    """The folder's name and a few digits that its place determines: runs that begin in the same
    second in different places, as those of a study, have folders of the same name.
    """
    place = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()
    return f"{directory.name}-{place[:6]}"


def _places(name: str, directory: Path) -> dict[str, Any]:
    upper = name.upper()
    return {
        "project": os.environ.get(f"{upper}_PROJECT", "murmuration"),
        "group": os.environ.get(f"{upper}_RUN_GROUP"),
        "name": run_name(directory),
    }


class _Wandb:
    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        wandb: Any = importlib.import_module("wandb")
        with redirect_stderr(io.StringIO()):  # it takes our `agents` for somebody else's
            self._run = wandb.init(
                **_places("wandb", directory),
                dir=str(directory),
                id=run_name(directory),
                resume="allow",
                config=dict(config),
                settings=wandb.Settings(console="off", silent=True),
            )
        self._run.define_metric("env_steps")
        self._run.define_metric("*", step_metric="env_steps")

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "env_steps": env_steps})

    def summary(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(values))

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, directory: Path, config: Mapping[str, Any]) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        with redirect_stdout(io.StringIO()):  # our output has a form of its own
            self._run = self._trackio.init(
                **_places("trackio", directory),
                resume="allow",
                config=dict(config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=env_steps)

    def summary(self, values: Mapping[str, Any]) -> None:
        """trackio knows none."""

    def close(self) -> None:
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()


class _Guarded:
    """A tracker whose failures do not end a run."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker: Tracker | None = tracker

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        self._try(lambda tracker: tracker.log(env_steps, values))

    def summary(self, values: Mapping[str, Any]) -> None:
        self._try(lambda tracker: tracker.summary(values))

    def close(self) -> None:
        self._try(lambda tracker: tracker.close())

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self._tracker is None:
            return
        try:
            act(self._tracker)
        except Exception as error:  # whatever somebody else's package and its server come up with
            self._tracker = None
            logger.warning("%s tracks no longer: %s", self._name, error)
