"""The only door to MAgent2's engine: its raw GridWorld, with types and our agent numbers.

    reset(places) -> order(team, actions) of all -> step -> rewards, survivors -> bury -> views

MAgent2's own PettingZoo wrappers stay outside: they drive the second team with the first team's
actions on the step after a reset, and fix the view range. The engine lists the living only and
closes the ranks after each death; `living` says which of our agents each row of the list is.

The engine is built by MAgent2's Python class and then called directly, with buffers that are made
once: the class makes new arrays and pointers for every question, which takes longer than the
engine's answers.

Dimension key: L = living agents of a team, in engine order; H, W = view; C = channels.
"""

import ctypes
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs import streams
from configs.arrays import BoolArray, FloatArray, IntArray
from configs.streams import Role

WALL, OWN_HP, OTHER_HP = 0, 2, 4
"""Channels of a view with two teams; of one team, the first two."""


class Kind(NamedTuple):
    """What all agents of a team are."""

    character: Mapping[str, float]
    """MAgent2's attributes of an agent type, without the two ranges."""
    view_radius: float
    attack_radius: float


class HitRule(NamedTuple):
    """What a hit is worth that does not kill."""

    attacker: int
    victim: int
    """Numbers of the two teams."""
    reward: float
    """What the attacker earns."""
    victim_reward: float = 0.0


class _Team:
    """One team's buffers, with their addresses as the engine takes them."""

    def __init__(self, handle: Any, size: int, view: tuple[int, ...], features: int) -> None:
        self.handle = handle
        self.num_living = size
        self.views = np.zeros((size, *view), dtype=np.float32)
        self._features = np.zeros((size, features), dtype=np.float32)
        self.actions = np.zeros(size, dtype=np.int32)
        self.rewards = np.zeros(size, dtype=np.float32)
        self.survivors = np.zeros(size, dtype=np.bool_)
        self.ids = np.zeros(size, dtype=np.int32)
        self.positions = np.zeros((size, 2), dtype=np.int32)
        self.num = ctypes.c_int32()
        self.observation_at = (ctypes.c_void_p * 2)(
            self.views.ctypes.data, self._features.ctypes.data
        )
        self.actions_at = _address(self.actions)
        self.rewards_at = _address(self.rewards)
        self.survivors_at = _address(self.survivors)
        self.ids_at = _address(self.ids)
        self.positions_at = _address(self.positions)
        self.num_at = ctypes.byref(self.num)


class GridWorld:
    """Teams of agents on a square map."""

    def __init__(self, *, map_size: int, kinds: Sequence[Kind], hits: Sequence[HitRule]) -> None:
        """Build the engine.

        Args:
            kinds: one for each team; teams that are alike share the same object.

        Raises:
            ImportError: magent2 is not installed.
        """
        magent, self._library = _magent()
        config = magent.Config()
        config.set(
            {
                "map_width": map_size,
                "map_height": map_size,
                # Nobody here reads what these two would add to an observation.
                "minimap_mode": False,
                "embedding_size": 0,
            }
        )
        teams: list[Any] = []
        names: dict[int, str] = {}
        for kind in kinds:
            if id(kind) not in names:
                names[id(kind)] = config.register_agent_type(
                    f"kind{len(names)}",
                    {
                        **kind.character,
                        "view_range": magent.CircleRange(kind.view_radius),
                        "attack_range": magent.CircleRange(kind.attack_radius),
                    },
                )
            teams.append(magent.AgentSymbol(config.add_group(names[id(kind)]), index="any"))
        for hit in hits:
            attacker, victim = teams[hit.attacker], teams[hit.victim]
            paid = {attacker: hit.reward}
            if hit.victim_reward:
                paid[victim] = hit.victim_reward
            config.add_reward_rule(
                magent.Event(attacker, "attack", victim), list(paid), list(paid.values())
            )
        self._engine: Any = magent.GridWorld(config)
        self._game: Any = self._engine.game
        self._teams: list[_Team] = []
        self._map_size = map_size
        self._first_id = [0] * len(kinds)
        self._done = ctypes.c_int32()
        self._done_at = ctypes.byref(self._done)

    def reset(self, seed: int, places: Sequence[IntArray | int], walls: int = 0) -> None:
        """Empty the map, put agents on it and seed the engine.

        All that is random in the engine is where it puts what has no place, and the order in which
        attacks of one step are carried out. On maps beyond 99×99 the engine loses about 8 KB with
        every reset.

        Args:
            seed: any number of [0, 2^64).
            places: for each team [agents, 2] x and y of the corner of their bodies with the
                smallest x and y, free and inside the walls; or how many the engine places.
            walls: cells that the engine walls up, beside those around the map.
        """
        engine = self._engine
        engine.reset()
        # The engine keeps its random state over a reset. Its generator is minstd: it takes seeds
        # modulo 2^31 - 1, 0 and 1 are the same to it, and neighbours begin with similar draws.
        drawn = streams.number(seed, Role.GRIDWORLD)
        engine.set_seed(1 + drawn % (2**31 - 2))
        handles = engine.get_handles()
        sizes = [cells if isinstance(cells, int) else len(cells) for cells in places]
        if [len(team.ids) for team in self._teams] != sizes:
            self._teams = [
                _Team(
                    handle,
                    size,
                    tuple(engine.get_view_space(handle)),
                    engine.get_feature_space(handle)[0],
                )
                for handle, size in zip(handles, sizes, strict=True)
            ]
        if walls:
            engine.add_walls(method="random", n=walls)
        first_id = 0
        for team, (cells, size) in enumerate(zip(places, sizes, strict=True)):
            if isinstance(cells, int):
                engine.add_agents(handles[team], method="random", n=cells)
            else:
                # The third column is the direction an agent faces, without meaning here.
                cells = np.pad(cells, ((0, 0), (0, 1)))
                engine.add_agents(handles[team], method="custom", pos=cells)
            # The engine skips a place that is taken with no more than a line on stderr.
            assert engine.get_num(handles[team]) == size, "a place was taken"
            self._teams[team].num_living = size
            # Ids count through the teams in the order they are added.
            self._first_id[team] = first_id
            first_id += size

    def living(self, team: int) -> IntArray:
        """[L] index of each agent within its team, as counted at the last reset."""
        of = self._teams[team]
        self._library.env_get_info(self._game, of.handle, b"id", of.ids_at)
        return of.ids[: of.num_living].astype(np.int64) - self._first_id[team]

    def positions(self, team: int) -> IntArray:
        """[L, 2] x and y."""
        of = self._teams[team]
        self._library.env_get_info(self._game, of.handle, b"pos", of.positions_at)
        return of.positions[: of.num_living].astype(np.int64)

    def views(self, team: int) -> FloatArray:
        """[L, H, W, C] what each agent sees; valid until the next call."""
        of = self._teams[team]
        # With nobody left to look, the engine would read beyond the end of its list.
        assert of.num_living > 0, "a dead team sees nothing"
        self._library.env_get_observation(self._game, of.handle, of.observation_at)
        return of.views[: of.num_living]

    def walls(self) -> IntArray:
        """[W, 2] x and y of the walls, those around the map included."""
        # The first row says how many follow.
        buffer = np.zeros((1 + self._map_size**2, 2), dtype=np.int32)
        self._library.env_get_info(self._game, -1, b"walls_info", _address(buffer))
        return buffer[1 : 1 + buffer[0, 0]].astype(np.int64)

    def health(self, team: int) -> FloatArray:
        """[L] share of each agent's hp, as it sees it itself; of bodies of one cell."""
        of = self._teams[team]
        if not of.num_living:
            return np.zeros(0, dtype=np.float32)
        views = self.views(team)
        return views[:, views.shape[1] // 2, views.shape[2] // 2, OWN_HP].copy()

    def order(self, team: int, actions_L: IntArray) -> None:
        """Say what every living agent of a team does in the next step."""
        of = self._teams[team]
        of.actions[: of.num_living] = actions_L
        self._library.env_set_action(self._game, of.handle, of.actions_at)

    def step(self) -> None:
        """Attacks in random order, then recovery, then moves: first team first, by index."""
        self._library.env_step(self._game, self._done_at)

    def rewards(self, team: int) -> FloatArray:
        """[L] rewards of the last step, the fallen included until they are buried; valid until
        the next call.
        """
        of = self._teams[team]
        self._library.env_get_reward(self._game, of.handle, of.rewards_at)
        return of.rewards[: of.num_living]

    def survivors(self, team: int) -> BoolArray:
        """[L] False for those who fell in the last step and are not buried yet; valid until the
        next call.
        """
        of = self._teams[team]
        self._library.env_get_info(self._game, of.handle, b"alive", of.survivors_at)
        return of.survivors[: of.num_living]

    def bury(self) -> None:
        """Take the fallen off the lists; the others move up. Once after every step."""
        self._library.gridworld_clear_dead(self._game)
        for of in self._teams:
            self._library.env_get_info(self._game, of.handle, b"num", of.num_at)
            of.num_living = of.num.value


def _address(buffer: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(buffer.ctypes.data)


def _magent() -> tuple[Any, Any]:
    """Import MAgent2's engine and its library, late: whoever only asks for spaces needs neither."""
    # Several threads would carry out attacks in an order that no seed decides, and MAgent2 would
    # take half the machine. It has to be said before its library is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import magent2.c_lib
    import magent2.gridworld

    return magent2.gridworld, magent2.c_lib._LIB  # pyright: ignore  # its only name
