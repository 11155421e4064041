"""A pre-training with its folder: what `python -m learner.pretrain` does once its options are read.

    FOLDER/checkpoint.safetensors   to go on from, written every few seconds and at an interruption
    FOLDER/losses.jsonl             a line for each pass, of the episodes that are held out as well
    FOLDER/NAME.safetensors         what runs load by --pretrained, once all passes are over
    FOLDER/lock                     held by the call that trains there

The episodes follow from the seed, so that a call that goes on plays them again and finds the same.
"""

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from agents.policy import PolicySpec, write_atomically
from agents.pretrained import save_pretrained
from configs.run_files import CHECKPOINT
from configs.schema import EnvConfig, NetworkConfig
from envs import registry
from learner.checkpoint_file import (
    CheckpointContent,
    CheckpointProgress,
    read_checkpoint,
    write_checkpoint,
)
from learner.pretraining.folder import PretrainingError, alone_in, one_line
from learner.pretraining.options import PretrainOptions
from learner.pretraining.played import Played, play_at_random
from learner.pretraining.training import FLOW, Pretraining
from runtime.terminal import stop_signals

LOSSES = "losses.jsonl"
_SAVE_EVERY_S = 5.0
_MAY_CHANGE = ("out", "threads", "epochs")
"""Options that a call which goes on may give anew."""


def pretrain(options: PretrainOptions) -> None:
    """Play, train until all passes are over, and write the file.

    Raises:
        PretrainingError: the folder holds something else, another call trains there, or what was
            trained cannot be written.
        KeyboardInterrupt: told to end; a checkpoint has been written.
    """
    torch.set_num_threads(options.threads)
    folder = Path(options.out)
    with alone_in(folder):
        _pretrain(options, folder)


def _pretrain(options: PretrainOptions, folder: Path) -> None:
    checkpoint = folder / CHECKPOINT
    saved = read_checkpoint(checkpoint) if checkpoint.exists() else None
    if saved is not None:
        _require_same(folder, saved, options)
    spec = spec_of(options)
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        training = Pretraining(options, spec, _played(options, bar))
        kept = _Kept(folder, training)
        if saved is not None:
            kept.restore(saved)
        with _asked() as asked:
            _train(training, kept, bar, asked)
        file = folder / f"{options.comm.replace(':', '.')}.safetensors"  # as runs are told to load
        arrays = {name: tensor.numpy() for name, tensor in training.tensors().items()}
        with one_line(file):  # before the checkpoint, which is larger and matters less by now
            save_pretrained(file, spec, arrays, {**asdict(options), "loss": training.loss})
        _try_to_save(kept, bar)
    print(file)


def spec_of(options: PretrainOptions) -> PolicySpec:
    """The policy whose messages are trained; of its network and head nothing matters."""
    env = registry.spec_of(env_of(options), options.agents)
    return PolicySpec.of(
        NetworkConfig(message_dtype=options.message_dtype),
        env.observation_dim,
        env.num_actions,
        comm=options.comm,
        comm_options=options.comm_options,
    )


def env_of(options: PretrainOptions) -> EnvConfig:
    return EnvConfig(name=options.env, options=options.env_options)


def _played(options: PretrainOptions, bar: Progress) -> Played:
    task = bar.add_task("playing at random", total=options.episodes)
    return play_at_random(
        env_of(options),
        options.agents,
        options.episodes,
        options.seed,
        lambda done: bar.update(task, completed=done),
    )


class _Asked:
    """Whether somebody has asked for the end."""

    def __init__(self) -> None:
        self.to_end = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.to_end = True


@contextmanager
def _asked() -> Generator[_Asked]:
    """Within, signals that ask for the end are noted: an update is never left half done."""
    asked = _Asked()
    with stop_signals.handled_by(asked.handle):
        yield asked


def _train(training: Pretraining, kept: "_Kept", bar: Progress, asked: _Asked) -> None:
    tasks = {
        name: bar.add_task(f"training {name}", total=stage.passes.updates, completed=stage.done)
        for name, stage in training.stages.items()
    }
    found: list[dict[str, float]] = []
    saved_s = time.monotonic()
    while (name := training.stage) is not None:
        stage = training.stages[name]
        found.append(stage.update())
        bar.update(tasks[name], completed=stage.done)
        if stage.done % stage.passes.updates_of_epoch == 0:
            bar.console.print(_line(kept.add_row(name, found)), highlight=False, soft_wrap=True)
            found = []
        if asked.to_end:
            kept.save()
            raise KeyboardInterrupt
        if time.monotonic() > saved_s + _SAVE_EVERY_S:
            _try_to_save(kept, bar)
            saved_s = time.monotonic()


def _try_to_save(kept: "_Kept", bar: Progress) -> None:
    """A training goes on without a checkpoint: room may be made until the next one."""
    try:
        kept.save()
    except PretrainingError as error:
        bar.console.print(f"warning: {error}", highlight=False, soft_wrap=True)


class _Kept:
    """What a folder keeps of a pre-training."""

    def __init__(self, folder: Path, training: Pretraining) -> None:
        self._folder = folder
        self._training = training
        self._rows: list[dict[str, Any]] = []
        """A line for each pass so far."""

    def add_row(self, name: str, found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        """A pass of a stage is over.

        Args:
            found: losses of its updates, or of those since the call began.
        """
        row: dict[str, Any] = {
            "stage": name,
            "epoch": self._training.stages[name].epochs_done,
            **{loss: sum(losses[loss] for losses in found) / len(found) for loss in found[0]},
            "held_out": self._training.held_out(name),
        }
        self._rows.append(row)
        return row

    def save(self) -> None:
        """Write checkpoint and losses, each whole or not at all.

        Raises:
            PretrainingError: one cannot be written.
        """
        training = self._training
        done = {name: stage.done for name, stage in training.stages.items()}
        content = CheckpointContent(
            CheckpointProgress(
                env_steps=0,
                episodes=training.options.episodes,
                updates=sum(done.values()),
                version=0,
            ),
            {name: tensor.detach().numpy() for name, tensor in self._tensors().items()},
            {"done": done, "rows": self._rows},
            json.dumps(asdict(training.options)),
        )
        lines = "".join(json.dumps(row) + "\n" for row in self._rows)
        with one_line(losses := self._folder / LOSSES):
            write_atomically(losses, lines.encode())
        with one_line(checkpoint := self._folder / CHECKPOINT):
            write_checkpoint(checkpoint, content)

    def restore(self, content: CheckpointContent) -> None:
        """Bring a fresh training of the same options to where the checkpoint was.

        Raises:
            PretrainingError: it has gone further than it is asked to.
        """
        training = self._training
        done: dict[str, int] = content.notes["done"]
        flow = training.stages[FLOW].passes
        if done[FLOW] > flow.updates:
            raise PretrainingError(
                f"--out {self._folder} has {done[FLOW] // flow.updates_of_epoch} passes over the "
                f"episodes behind it, got epochs {flow.epochs}: give as many, or another folder"
            )
        for name, stage in training.stages.items():
            stage.done = done[name]
            if stage.done:
                stage.begin_moments()
        tensors = self._tensors()
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(torch.tensor(content.arrays[name]))
        self._rows = list(content.notes["rows"])

    def _tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint has; changing one changes the training's."""
        tensors: dict[str, Tensor] = dict(self._training.model.named_parameters())
        for stage in self._training.stages.values():
            for name, parameter in stage.parameters.items():
                for moment, tensor in stage.optimiser.state.get(parameter, {}).items():
                    tensors[f"adam.{moment}.{name}"] = tensor
        return tensors


def _require_same(folder: Path, saved: CheckpointContent, options: PretrainOptions) -> None:
    try:
        before: object = json.loads(saved.config)
    except ValueError:
        before = None
    if not isinstance(before, dict):  # a run's checkpoint has the same name
        raise PretrainingError(
            f"--out {folder} holds the checkpoint of something else: give another folder"
        )
    before, now = cast("dict[str, Any]", before), asdict(options)
    for name in sorted(before.keys() | now.keys()):
        if name not in _MAY_CHANGE and before.get(name) != now.get(name):
            raise PretrainingError(
                f"--out {folder} holds a pre-training with {name} {before.get(name)!r}, got "
                f"{now.get(name)!r}: give another folder, or the same options to go on"
            )


def _line(row: Mapping[str, Any]) -> str:
    """A row for people: each loss, and behind it that of the episodes that are held out."""
    held_out: Mapping[str, float] = row["held_out"]
    losses = [
        f"{name} {row[name]:.3f} ({value:.3f})" if name in row else f"{name} ({value:.3f})"
        for name, value in held_out.items()
    ]
    return f"{row['stage']} {row['epoch']}: {', '.join(losses)}"
