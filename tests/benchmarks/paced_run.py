"""A run of ours that plays in turn with the loops beside it.

    lockstep -> PacedRun -> process of the world -> PacedWorld.begin_tick waits for its turn

Nothing of the run knows: the world stands still where a tick would begin, and the others wait for
it as they do when it is slow. Time-outs must be longer than the others' turns.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from runtime.run.plan import Plan
from runtime.run.run import Run
from runtime.run.view import View
from runtime.terminal.processes import ONE_THREAD, spawn
from runtime.world import process
from runtime.world.commands import WorldCommand
from runtime.world.lockstep import World
from runtime.world.process import WorldSetup
from tests.benchmarks.turns import InTurn


class PacedWorld(World):
    """A world that begins a tick only in its turn."""

    def __init__(self, *arguments: Any, turns_path: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._turns = InTurn(turns_path)

    def begin_tick(self) -> list[WorldCommand]:
        self._turns.may_tick()  # when it is over the launcher says so
        return super().begin_tick()


@dataclass(frozen=True, slots=True)
class PacedSetup:
    """All that the process of such a world is told."""

    world: WorldSetup
    turns_path: str
    """The referee's socket."""


def main(setup: PacedSetup) -> None:
    """Run the world. Entry point of the process."""
    process.main(setup.world, make_world=partial(PacedWorld, turns_path=setup.turns_path))


class PacedRun(Run):
    """A run whose world plays in turn."""

    def __init__(self, plan: Plan, view: View, turns_path: str) -> None:
        """`turns_path` is the referee's socket."""
        super().__init__(plan, view, None)
        self._turns_path = turns_path

    def _start_world(self, learner_endpoint: str) -> None:
        world = self._places.world(self._hub.endpoint, learner_endpoint)
        setup = PacedSetup(world, self._turns_path)
        self._children.adopt("world", spawn(main, setup, "murmuration world", ONE_THREAD))
