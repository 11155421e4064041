"""Everything that describes a run, as one frozen tree of dataclasses.

    schema defaults < preset of the environment < --config FILE < command line  ->  RunConfig

Standard library and tyro only, so that every process can import it. A preset holds differences,
never defaults; `configs.load` does the merging. Objects receive the sub-tree they need.
"""

from configs.schema.agents import AgentsConfig
from configs.schema.choices import (
    BeaconDtype,
    EnvName,
    GateEstimator,
    GateMode,
    GateTiming,
    MessageDtype,
    PublishDtype,
    PublishMode,
    SparseLayer,
    TemperatureSchedule,
    TrackerName,
    Transport,
)
from configs.schema.env import EnvConfig
from configs.schema.evaluation import EvaluationConfig
from configs.schema.gate import GateConfig
from configs.schema.learner import LearnerConfig
from configs.schema.limits import (
    MAX_AGENTS,
    MAX_COPIES,
    MAX_CYCLES,
    MAX_EPISODES,
    MAX_OFFSETS,
    MAX_PORT,
    MAX_SEED,
    MAX_SHARDS,
    MAX_STEPS,
    MAX_THREADS,
    MAX_UPDATES,
    START_S_PER_AGENT,
)
from configs.schema.network import NetworkConfig
from configs.schema.run import RunConfig
from configs.schema.runtime import RuntimeConfig
from configs.schema.sparse import SparseConfig

__all__ = [
    "MAX_AGENTS",
    "MAX_COPIES",
    "MAX_CYCLES",
    "MAX_EPISODES",
    "MAX_OFFSETS",
    "MAX_PORT",
    "MAX_SEED",
    "MAX_SHARDS",
    "MAX_STEPS",
    "MAX_THREADS",
    "MAX_UPDATES",
    "START_S_PER_AGENT",
    "AgentsConfig",
    "BeaconDtype",
    "EnvConfig",
    "EnvName",
    "EvaluationConfig",
    "GateConfig",
    "GateEstimator",
    "GateMode",
    "GateTiming",
    "LearnerConfig",
    "MessageDtype",
    "NetworkConfig",
    "PublishDtype",
    "PublishMode",
    "RunConfig",
    "RuntimeConfig",
    "SparseConfig",
    "SparseLayer",
    "TemperatureSchedule",
    "TrackerName",
    "Transport",
]
