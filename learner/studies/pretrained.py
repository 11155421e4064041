"""Before the trainings of a study: the files of pre-trainings that they begin with.

    before:
      - run: learner.studies.pretrained:make
        options: {epochs: 60}                     of learner.pretrain

A training names its file by `pretrained: FOLDER/nvif.safetensors`. Where it is missing, it is made
from the training's own environment, scheme and number of agents; trainings that name the same file
share it. A pre-training that was interrupted goes on with the next call.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from configs.load import ConfigError
from configs.schema import RunConfig
from learner.studies.cells import State
from learner.studies.child import Stop, start
from learner.studies.plan import Job, flags
from learner.studies.study import Options

_LOOK_S = 0.2


def make(jobs: Iterable[Job], options: Options, stop: Stop) -> None:
    """Make what is missing, one after the other.

    Args:
        options: of learner.pretrain beside those that follow from a training.

    Raises:
        ConfigError: a pre-training failed.
    """
    for file, config in _missing(jobs).items():
        if stop.is_due:
            return
        print(f"{file}: is made first", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        output = file.parent / "output.txt"
        child = start("learner.pretrain", arguments(config, file, options), None, output)
        while (code := child.poll()) is None:
            time.sleep(_LOOK_S)
            if stop.is_due:
                child.leave(stop)
        if code and not stop.is_due:
            raise ConfigError(f"{file}: its pre-training failed with code {code}: see {output}")


def arguments(config: RunConfig, file: Path, options: Options) -> Sequence[str]:
    """Of learner.pretrain, for the file of a training."""
    words = ("--out", f"{file.parent}", "--env", config.env.name)
    words += ("--env.options", config.env.options) if config.env.options else ()
    words += ("--agents", f"{config.num_agents}", "--comm", config.comm)
    words += ("--comm.options", config.comm_options) if config.comm_options else ()
    return (*words, "--message-dtype", config.network.message_dtype, *flags(options))


def _missing(jobs: Iterable[Job]) -> dict[Path, RunConfig]:
    """Files that trainings will ask for, with the first that does."""
    found: dict[Path, RunConfig] = {}
    for job in jobs:
        if not job.config.pretrained:
            continue
        file = Path(job.config.pretrained)
        # A training that has begun has what it needs of it.
        if not file.exists() and job.cell.standing(job.wanted).state is State.MISSING:
            found.setdefault(file, job.config)
    return found
