"""What launcher, agents and world have to know of an algorithm before anybody imports torch.

    configs/algorithms/NAME.py: TRAITS (and OPTIONS)  <->  learner/algorithms/NAME.py: ALGORITHM

OPTIONS is a frozen dataclass of what the algorithm alone takes (--algorithm.options). TRAITS may be
a function of such options. An algorithm from outside has no file here: its class says the same in
`traits` and `Options`, and a short child process is asked (learner/describe.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Acting = Literal["epsilon-greedy", "sample", "guided", "random"]
"""How agents choose in training: the best action but for a random one now and then; one drawn from
what the policy's head says (logits); what a guide in the learner says; or uniformly."""

ActionSpace = Literal["discrete", "box"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Batches are drawn from the newest `learner.replay_episodes` episodes, of any policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnPolicy:
    """A rollout of the newest policy is worked off and forgotten. It is made of whole episodes, or
    of as many steps of each copy, across the ends of episodes.

    The world waits while the learner works; a policy never changes within an episode, or within a
    rollout of so many steps.
    """

    episodes: int
    """Episodes of a rollout that is made of these."""
    epochs: int = 1
    """How often each of them is used."""
    minibatches: int = 1
    """Gradient steps of an epoch, each with its share of the episodes or copies."""
    steps: int = 0
    """Steps of each copy; 0: rollouts are made of whole episodes."""
    overlaps: bool = False
    """The world plays one rollout of so many steps while the learner works off the one before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """One algorithm's."""

    columns: frozenset[str] = frozenset()
    """What agents record beside observations and actions: names in configs/columns.py."""
    experience: Replayed | OnPolicy = Replayed()
    acting: Acting = "epsilon-greedy"
    centralised: bool = False
    """Guided in evaluations as well: it leaves no policy that an agent could act by alone."""
    actions: frozenset[ActionSpace] = frozenset({"discrete"})
    """Spaces of actions that it can take."""
    fixes_agents: bool = True
    """Something in it has a weight for each agent: a run that goes on keeps their number."""
    reads: tuple[str, ...] = ()
    """Options of `learner` that only some algorithms read, and this one does."""
    chooses_online: bool = False
    """Values the actions that the online network chooses: `learner.double_q`, unless
    `learner.operator` chooses none."""
    has_operator: bool = True
    """Takes what `learner.operator` says of the next step's action values."""
    sizes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Options, of `learner` or its own, that make up the size of a part such as "mixer": numbers of
    units, the one that counts most first. A run that goes on keeps them."""
    keeps: tuple[str, ...] = ()
    """Further options, of either kind, that a run which goes on keeps."""
    trains: bool = True
    """Takes gradient steps at all."""

    @property
    def rollout_steps(self) -> int:
        """Steps of each copy in a rollout of fixed length; 0 where there are none."""
        return self.experience.steps if isinstance(self.experience, OnPolicy) else 0

    @property
    def kept(self) -> tuple[str, ...]:
        """All options that the shapes of its networks follow from."""
        sizes = (name for names in self.sizes.values() for name in names)
        return tuple(dict.fromkeys((*sizes, *self.keeps)))
