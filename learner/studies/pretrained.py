"""Before the trainings of a study: the files of pre-trainings that they begin with.

    before:
      - run: learner.studies.pretrained:make
        options: {epochs: 60}                     of learner.pretrain

A training names its file by `pretrained: FOLDER/nvif.safetensors`. Where it is missing, it is made
from the training's own environment, scheme and number of agents; trainings that name the same file
share it, and one that was made otherwise is refused. A pre-training that was interrupted goes on
with the next call, and one that another call is at is waited for.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from agents.found import scheme_of
from agents.pretrained import made_with
from configs.load import ConfigError, parse_command_line
from configs.options import read as read_options
from configs.schema import EnvConfig, RunConfig
from envs.registry import family_of
from learner.pretrain import pretrainer_of
from learner.pretraining.folder import is_taken
from learner.studies.cells import State
from learner.studies.child import Stop, start
from learner.studies.plan import Job, flags
from learner.studies.study import Options

_LOOK_S = 0.2
_MAY_DIFFER = ("out", "threads")
"""Options of a pre-training that change nothing of what it makes."""


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
        words = arguments(asking[0], file, options)
        while not file.exists() and not stop.is_due:
            if is_taken(file.parent):
                time.sleep(_LOOK_S)
            else:
                _make(file, words, stop)
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
    if code and not stop.is_due and not is_taken(file.parent):  # another call was faster
        raise ConfigError(f"{file}: its pre-training failed with code {code}: see {output}")


def arguments(config: RunConfig, file: Path, options: Options) -> Sequence[str]:
    """Of learner.pretrain, for the file of a training. Those of the scheme are said even where the
    training has none: that command has some by default.
    """
    words = ("--out", f"{file.parent}", "--env", config.env.name)
    words += ("--env.options", config.env.options) if config.env.options else ()
    words += ("--agents", f"{config.num_agents}", "--comm", config.comm)
    words += ("--comm.options", config.comm_options)
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
    words = arguments(config, file, options)
    asked = asdict(parse_command_line(pretrainer_of(config.comm), words, prog="learner.pretrain"))
    for name, value in asked.items():
        before = made.get(name)
        if name in _MAY_DIFFER or before == value or (name, value) == ("loss", "auto"):
            continue
        if name == "env_options" and _same_env(config.env, before):
            continue
        if name == "comm_options" and _same_scheme(config.comm, value, before):
            continue
        raise ConfigError(
            f"{file} was made with {name} {before!r:.100}, these trainings ask for {value!r}: move "
            "it away, and it is made anew"
        )


def _same_scheme(comm: str, options: object, others: object) -> bool:
    """Whether these are the same options of a scheme, said otherwise perhaps."""
    taken = scheme_of(comm).Options
    try:
        return read_options(taken, f"{options}", "") == read_options(taken, f"{others}", "")
    except ValueError:
        return False


def _same_env(env: EnvConfig, options: object) -> bool:
    """Whether the environment is the same with these options, which may say it otherwise."""
    family = family_of(env.name)
    try:
        return family.read(replace(env, options=f"{options}")) == family.read(env)
    except ValueError:
        return False
