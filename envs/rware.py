"""The robotic warehouse: robots bring the shelves that are asked for (Papoudakis et al., 2021).

    --env rware -> WarehouseFamily -> Warehouse -> rware.warehouse.Warehouse

The package's own environment, of which reset and step are left as they are.

Dimension key: N = agents, D = observation features, S = state, H, W = cells of the warehouse.
"""

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.arrays import FloatArray
from configs.ranges import between, check_ranges
from configs.schema.limits import MAX_CYCLES
from envs.base import EnvSpec
from envs.family import OPTIONS_FLAG, EnvFamily
from envs.gymnasium_team import GymnasiumTeam
from envs.installed import check_installed
from envs.scene import Map, team_of
from envs.spaces import Discrete

NUM_ACTIONS = 5
"""Nothing, forward, turn left, turn right, lift or put down."""
_OF_ITSELF = 8
"""Numbers with which an observation begins: x, y, whether it carries, direction one-hot, whether it
stands on a way."""
_OF_A_CELL = 7
"""Whether a robot is there, its direction one-hot, whether a shelf is, whether it is asked for."""
_SHELVES = {"tiny": (1, 3), "small": (2, 3), "medium": (2, 5), "large": (3, 5)}
"""Rows and columns of groups of shelves."""
_REQUESTS = {"easy": 2.0, "normal": 1.0, "hard": 0.5}
"""Shelves that are asked for at a time, for each agent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WarehouseOptions:
    size: Literal["tiny", "small", "medium", "large"] = "tiny"
    """The package's sizes: 1 x 3, 2 x 3, 2 x 5 or 3 x 5 groups of shelves."""
    difficulty: Literal["easy", "normal", "hard"] = "normal"
    """How many shelves are asked for at a time: two, one or half of one for each agent."""
    column_height: Annotated[int, between(1, 15)] = 8
    """Shelves above each other in a group."""
    sensor_range: Annotated[int, between(1, 5)] = 1
    """Cells that a robot sees in each direction."""
    reward_type: Literal["global", "individual", "two_stage"] = "global"
    """Who is paid for a delivery: everybody 1, so that an episode returns the number of deliveries;
    the robot that delivers 1; or it 0.5, and 0.5 more when it has put the shelf back."""
    normalised_coordinates: bool = False
    """Whether places are told as shares of the warehouse and not as numbers of cells."""
    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 500
    """Steps after which an episode is truncated; the package's `max_steps`."""

    def __post_init__(self) -> None:
        check_ranges(self, OPTIONS_FLAG)

    @property
    def grid(self) -> tuple[int, int]:
        """H, W"""
        rows, columns = _SHELVES[self.size]
        return (self.column_height + 1) * rows + 2, 3 * columns + 1

    @property
    def shelves(self) -> int:
        """Groups are two shelves wide; one makes room for the queue at the goals."""
        rows, columns = _SHELVES[self.size]
        return (rows * columns - 1) * 2 * self.column_height

    def requests(self, num_agents: int) -> int:
        """Shelves that are asked for at a time."""
        return int(num_agents * _REQUESTS[self.difficulty])


def warehouse_spec(options: WarehouseOptions, num_agents: int) -> EnvSpec:
    """Spaces of a warehouse; needs no package.

    Raises:
        ValueError: no agents or too many, and so with shelves that are asked for.
    """
    height, width = options.grid
    most = height * width // 4
    if not 1 <= num_agents <= most:
        raise ValueError(
            f"rware takes between 1 and {most} agents with size={options.size} and column_height="
            f"{options.column_height}, got {num_agents}"
        )
    if not 1 <= (requests := options.requests(num_agents)) < options.shelves:
        raise ValueError(
            f"rware with {num_agents} agents and difficulty={options.difficulty} asks for "
            f"{requests} shelves at a time, which must be between 1 and {options.shelves - 1}"
        )
    return EnvSpec(
        name="rware",
        num_agents=num_agents,
        observation_shape=(_OF_ITSELF + _OF_A_CELL * (1 + 2 * options.sensor_range) ** 2,),
        actions=Discrete(NUM_ACTIONS),
        state_dim=_OF_ITSELF * num_agents + 2 * height * width,
        episode_limit=options.max_cycles,
        noop_action=0,
        shared_reward=options.reward_type == "global",
        can_be_won=False,
    )


class Warehouse(GymnasiumTeam):
    """Deliveries until time runs out: an episode is truncated, never terminated.

    An observation is [x, y, whether it carries a shelf, direction one-hot, whether it stands on a
    way], then for each cell in reach [robot, its direction one-hot, shelf, asked for]. The state is
    the first part of all, where shelves are and which of them are asked for.
    """

    def __init__(self, options: WarehouseOptions, num_agents: int) -> None:
        from rware import warehouse

        rows, columns = _SHELVES[options.size]
        with warnings.catch_warnings():
            # Gymnasium remarks on the bounds of the package's normalised coordinates.
            warnings.filterwarnings("ignore", ".*precision lowered.*", UserWarning)
            env: Any = warehouse.Warehouse(
                shelf_columns=columns,
                column_height=options.column_height,
                shelf_rows=rows,
                n_agents=num_agents,
                msg_bits=0,
                sensor_range=options.sensor_range,
                request_queue_size=options.requests(num_agents),
                max_inactivity_steps=None,
                max_steps=options.max_cycles,
                reward_type=warehouse.RewardType[options.reward_type.upper()],
                normalised_coordinates=options.normalised_coordinates,
            )
        # Other layers of the package's have x and y the wrong way round, and leave the warehouse.
        self._layers = [warehouse.ImageLayer.SHELVES, warehouse.ImageLayer.REQUESTS]
        super().__init__(env, warehouse_spec(options, num_agents))

    def state(self, observations_ND: NDArray[Any]) -> FloatArray:
        cells: NDArray[np.float32] = self._env.get_global_image(self._layers, recompute=True)
        robots = observations_ND[:, :_OF_ITSELF].astype(np.float32)
        return np.concatenate([robots.reshape(-1), cells.reshape(-1)])

    def scene(self) -> Map:
        """Robots, and shelves: full if they are asked for."""
        env = self._env
        height, width = env.grid_size
        asked = {shelf.id for shelf in env.request_queue}
        robots = np.array([(robot.x, robot.y) for robot in env.agents])
        shelves = np.array([(shelf.x, shelf.y) for shelf in env.shelfs])
        full = np.array([shelf.id in asked for shelf in env.shelfs], dtype=np.float32)
        teams = (
            team_of("robots", len(robots), np.arange(len(robots)), robots),
            team_of("shelves", len(shelves), np.arange(len(shelves)), shelves, full),
        )
        return Map(width, height, teams, np.zeros((0, 2), dtype=np.int64))


class WarehouseFamily(EnvFamily[WarehouseOptions]):
    """The robotic warehouse in all its sizes."""

    Options = WarehouseOptions

    def spec(self, options: WarehouseOptions, num_agents: int) -> EnvSpec:
        return warehouse_spec(options, num_agents)

    def check(self, options: WarehouseOptions, num_agents: int) -> None:
        self.spec(options, num_agents)
        check_installed(self.name, "rware", "rware")

    def make(self, options: WarehouseOptions, num_agents: int) -> Warehouse:
        return Warehouse(options, num_agents)


ENVIRONMENT = WarehouseFamily
