"""Everything that describes a run, as one frozen tree of dataclasses."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from configs import extensions
from configs.ranges import between, check_ranges
from configs.schema.agents import AgentsConfig
from configs.schema.env import EnvConfig
from configs.schema.evaluation import EvaluationConfig
from configs.schema.fields import require
from configs.schema.gate import GateConfig
from configs.schema.learner import LearnerConfig
from configs.schema.limits import MAX_AGENTS, MAX_SEED, MAX_STEPS, START_S_PER_AGENT
from configs.schema.network import NetworkConfig
from configs.schema.runtime import RuntimeConfig
from configs.schema.sparse import SparseConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    num_agents: Annotated[int, tyro.conf.arg(name="agents"), between(2, MAX_AGENTS)] = 100
    """Number of agents N; each is an operating-system process of its own."""

    steps: Annotated[int, between(1, MAX_STEPS)] = 1_000_000
    """Environment steps to train for, summed over the copies."""

    seed: Annotated[int, between(0, MAX_SEED)] = 0
    """Root seed; every process and every episode derives its own from it."""

    comm: str = "sops"
    """Communication scheme: a name, or package.module:attribute. sops: gated messages over the
    exponential graph; none: agents that never speak."""

    comm_options: Annotated[str, tyro.conf.arg(name="comm.options")] = ""
    """What the communication scheme itself takes: name=value,name=value."""

    policy: str = ""
    """Policy file to begin with, or the word shipped for the one that comes with the environment;
    empty begins untrained. With a policy exploration, gate temperature and opponents begin where
    their schedules end."""

    pretrained: str = ""
    """File of python -m learner.pretrain, whose tensors the policy begins with. The scheme it was
    made for is --comm. learner.pretrained says whether they are trained further. Beside --policy:
    the file that this policy began with; without it what was frozen is trained from now on."""

    resume: str = ""
    """Folder of an earlier run to continue, for example runs/20260101-120000-battle. Each time
    begins a new life of the run, whose random draws are not those of an earlier one."""

    life: Annotated[int, between(0, MAX_SEED), tyro.conf.Fixed, tyro.conf.Suppress] = 0
    """How often this run has been resumed. The launcher counts it, for the random streams."""

    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    sparse: SparseConfig = field(default_factory=SparseConfig)
    agents: AgentsConfig = field(default_factory=AgentsConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check_ranges(self)
        extensions.address(extensions.SCHEME, self.comm)
        if self.network.policies > 1 and self.comm != "none":
            raise ValueError(
                f"network.policies {self.network.policies}: networks that share nothing do not "
                f"understand each other's messages: give --comm none, got {self.comm}"
            )

        require(
            not self.pretrained or self.sparse.method == "none",
            f"sparse.method {self.sparse.method} would cut links of what is pretrained: take none",
        )

    @property
    def keeps_pretrained(self) -> bool:
        """Whether there are tensors of a pre-training, which stay as they are."""
        return bool(self.pretrained) and self.learner.pretrained == "frozen"

    @property
    def start_patience_s(self) -> float:
        """Seconds that a start may stand still: the more agents, the longer each step of it."""
        return self.runtime.start_timeout_s + START_S_PER_AGENT * self.num_agents
