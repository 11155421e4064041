"""The only door to MAgent2's engine: its raw GridWorld, with types and our agent numbers.

    reset(places) -> order(team, actions) of both -> step -> rewards, survivors -> bury -> views

MAgent2's own PettingZoo wrappers stay outside: they drive the second team with the first team's
actions on the step after a reset, and fix the view range. The engine lists the living only and
closes the ranks after each death; `living` says which of our agents each row of the list is.

Dimension key: L = living agents of a team, in engine order; H, W = view; C = channels.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from envs.base import BoolArray, FloatArray, IntArray

WALL, OWN_HP, OTHER_HP = 0, 2, 5
"""Channels of a view with two teams and the minimap on."""


class GridWorld:
    """Two teams of one kind of character on a square map."""

    def __init__(
        self,
        *,
        map_size: int,
        character: Mapping[str, float],
        view_radius: float,
        attack_radius: float,
        hit_reward: float,
    ) -> None:
        """Build the engine.

        Args:
            character: MAgent2's attributes of an agent type, without the two ranges.
            hit_reward: what an agent earns for hitting the other team without killing.

        Raises:
            ImportError: magent2 is not installed.
        """
        magent = _magent()
        config = magent.Config()
        config.set(
            {
                "map_width": map_size,
                "map_height": map_size,
                "minimap_mode": True,
                "embedding_size": 10,
            }
        )
        kind = config.register_agent_type(
            "character",
            {
                **character,
                "view_range": magent.CircleRange(view_radius),
                "attack_range": magent.CircleRange(attack_radius),
            },
        )
        teams = [magent.AgentSymbol(config.add_group(kind), index="any") for _ in range(2)]
        for attacker, victim in (teams, teams[::-1]):
            config.add_reward_rule(
                magent.Event(attacker, "attack", victim), receiver=attacker, value=hit_reward
            )
        self._engine: Any = magent.GridWorld(config)
        self._handles: list[Any] = self._engine.get_handles()
        self._first_id = [0, 0]

    def reset(self, seed: int, places: Sequence[IntArray]) -> None:
        """Empty the map, put agents on it and seed the engine.

        All that is random in the engine is the order in which attacks of one step are carried out.
        On maps beyond 99×99 the engine loses about 8 KB with every reset.

        Args:
            seed: any number of [0, 2^64).
            places: for each team [agents, 2] x and y, free and inside the walls.
        """
        self._engine.reset()
        # The engine keeps its random state over a reset. Its generator is minstd: it takes seeds
        # modulo 2^31 - 1, 0 and 1 are the same to it, and neighbours begin with similar draws.
        drawn = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
        self._engine.set_seed(1 + drawn % (2**31 - 2))
        first_id = 0
        for team, cells in enumerate(places):
            # The third column is the direction an agent faces, without meaning here.
            self._engine.add_agents(
                self._handles[team], method="custom", pos=np.pad(cells, ((0, 0), (0, 1)))
            )
            # The engine skips a place that is taken with no more than a line on stderr.
            assert self._engine.get_num(self._handles[team]) == len(cells), "a place was taken"
            # Ids count through both teams in the order they are added.
            self._first_id[team] = first_id
            first_id += len(cells)

    def living(self, team: int) -> IntArray:
        """[L] index of each agent within its team, as counted at the last reset."""
        ids = cast(IntArray, self._engine.get_agent_id(self._handles[team]))
        return ids.astype(np.int64) - self._first_id[team]

    def positions(self, team: int) -> IntArray:
        """[L, 2] x and y."""
        return cast(IntArray, self._engine.get_pos(self._handles[team])).astype(np.int64)

    def views(self, team: int) -> FloatArray:
        """[L, H, W, C] what each agent sees; valid until the next call."""
        # With nobody left to look, the engine would read beyond the end of its list.
        assert self._engine.get_num(self._handles[team]) > 0, "a dead team sees nothing"
        return cast(FloatArray, self._engine.get_observation(self._handles[team])[0])

    def order(self, team: int, actions_L: IntArray) -> None:
        """Say what every living agent of a team does in the next step."""
        self._engine.set_action(self._handles[team], np.ascontiguousarray(actions_L, np.int32))

    def step(self) -> None:
        """Attacks in random order, then recovery, then moves: first team first, by index."""
        self._engine.step()

    def rewards(self, team: int) -> FloatArray:
        """[L] rewards of the last step, the fallen included until they are buried."""
        return cast(FloatArray, self._engine.get_reward(self._handles[team]))

    def survivors(self, team: int) -> BoolArray:
        """[L] False for those who fell in the last step and are not buried yet."""
        return cast(BoolArray, self._engine.get_alive(self._handles[team]))

    def bury(self) -> None:
        """Take the fallen off the lists; the others move up. Once after every step."""
        self._engine.clear_dead()


def _magent() -> Any:
    """Import MAgent2's engine, late: whoever only asks for spaces needs no engine."""
    # Several threads would carry out attacks in an order that no seed decides, and MAgent2 would
    # take half the machine. It has to be said before its library is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import magent2.gridworld

    return magent2.gridworld
