"""Before the trainings of a study: the files of pre-trainings that they begin with.

    before:
      - run: learner.studies.pretrained:make
        options: {epochs: 60}                     of learner.pretrain

A training names its file by `pretrained: FOLDER/nvif.safetensors`. Where it is missing, it is made
from the training's own environment, scheme and number of agents; trainings that name the same file
share it, and one that was made otherwise is refused. A pre-training that was interrupted goes on
with the next call.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from agents.pretrained import made_with
from configs.load import ConfigError
from configs.schema import EnvConfig, RunConfig
from envs.registry import family_of
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
        ConfigError: a pre-training failed, or a file that is there was made with other options.
        PretrainedError: a file that is there cannot be read.
    """
    for file, asking in _asked(jobs).items():
        if stop.is_due:
            return
        if not file.exists():
            _make(file, arguments(asking[0], file, options), stop)
        if file.exists():  # or the pre-training was interrupted
            for config in asking:
                _require_as_asked(file, config, options)


def _make(file: Path, words: Sequence[str], stop: Stop) -> None:
    print(f"{file}: is made first", flush=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    output = file.parent / "output.txt"
    child = start("learner.pretrain", words, None, output)
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


def _asked(jobs: Iterable[Job]) -> dict[Path, list[RunConfig]]:
    """Files that trainings will ask for, with those trainings."""
    found: dict[Path, list[RunConfig]] = {}
    for job in jobs:
        # A training that has begun has what it needs of its file.
        if job.config.pretrained and job.cell.standing(job.wanted).state is State.MISSING:
            found.setdefault(Path(job.config.pretrained), []).append(job.config)
    return found


def _require_as_asked(file: Path, config: RunConfig, options: Options) -> None:
    """Whether the file is what would be made here. What the policy has to share with it (scheme,
    size of observations) is looked at again when it is loaded; where it was played is not.

    Raises:
        ConfigError: it was made with other options.
        PretrainedError: it cannot be read.
    """
    made = made_with(file)
    asked: dict[str, object] = {
        "env": config.env.name,
        "env_options": config.env.options,
        "agents": config.num_agents,
        "message_dtype": config.network.message_dtype,
        **{name.replace("-", "_"): value for name, value in options.items()},
    }
    for name, value in asked.items():
        before = made.get(name)
        if before == value or (name == "env_options" and _same_env(config.env, before)):
            continue
        raise ConfigError(
            f"{file} was made with {name} {before!r:.100}, these trainings ask for {value!r}: move "
            "it away, and it is made anew"
        )


def _same_env(env: EnvConfig, options: object) -> bool:
    """Whether the environment is the same with these options, which may say it otherwise."""
    family = family_of(env.name)
    try:
        return family.read(replace(env, options=f"{options}")) == family.read(env)
    except ValueError:
        return False
