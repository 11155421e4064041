"""Random streams: whatever is drawn from a seed, by the role that it is drawn for.

    seed, role, key (agent, copy, episode, ...)  ->  SeedSequence(seed, spawn_key=(role, *key))

This is the only place that makes a stream; a test holds the packages to it. A list as entropy is
no alternative: numpy fills it up with zeros, so `[seed, 1]` and `[seed, 1, 0]` are the same stream.
A spawn key is not filled up. Every role has a number of its own and a key of fixed length, so no
two streams of a run are the same.

A resumed run is a new life (`RunConfig.life`). Streams that the checkpoint does not keep have the
life in their key, so the draws of an earlier life do not come again.

numpy only; learner/noise.py makes torch's generators from here.
"""

from enum import Enum

import numpy as np

_LIMIT = 1 << 32
"""numpy cuts larger numbers into several words, and the length of a key would not be fixed."""


class Role(Enum):
    """What a stream is for: its number, then the names of what tells its streams apart.

    A number that is in use keeps its meaning: seeded runs stay as they are.
    """

    POLICY = 1, ()
    """Initial parameters of the policy."""
    NETWORKS = 2, ()
    """Initial parameters of all other networks of a learner."""
    TOPOLOGY = 3, ()
    """First links of sparse networks."""
    EVOLUTION = 4, ("gradient_steps",)
    """Links that move after so many steps."""
    REPLAY = 5, ()
    """What the learner draws from its replay. Its state is in the checkpoint."""
    GATE_NOISE = 6, ("gradient_steps",)
    """Noise of the gates in the learner. Its state is in the checkpoint; where that cannot be used,
    the noise begins anew after so many steps."""
    AGENT = 7, ("agent", "life", "incarnation")
    """Exploration and noise of the gates of an agent; its child is link loss."""
    EPISODE = 8, ("life", "copy", "episode")
    """Seed of an environment's episode; episodes are counted for each copy."""
    OPPONENT_ACTIONS = 9, ("life", "copy", "episode")
    """What opponents draw in that episode."""
    OPPONENT_CHOICE = 10, ("life", "episode")
    """Opponent of a training episode, by its number in the run."""
    VICTIMS = 11, ()
    """Agents that an evaluation kills."""
    RELAY = 12, ()
    """Source and colour in an episode of relay, from that episode's seed."""
    GRIDWORLD = 13, ()
    """Order of attacks in an episode of MAgent2's engine, from that episode's seed."""
    PARALLEL = 14, ()
    """Episodes behind PettingZoo's interface, from the seed of a reset."""
    SELF_PLAY = 15, ()
    """Exploration, players and replay of an opponent's training."""
    SELF_PLAY_BATTLE = 16, ("episode",)
    """Seed of a battle in that training."""
    CONTEST = 17, ()
    """Actions in contests of opponents."""
    CONTEST_BATTLE = 18, ("episode",)
    """Seed of a battle of a contest."""
    GUIDE = 19, ("life",)
    """Steps that a guide plays, and what it draws."""
    GUIDE_NETWORK = 21, ()
    """Parameters that a guide in the learner begins with."""
    POPULATION = 20, ("agents", "life")
    """Episodes, exploration and noise of a population that the learner plays itself."""
    REHEARSAL = 22, ()
    """Observations on which a host tries a policy out before its agents act by it."""
    IMP = 30, ()
    """What inspections find in an episode of imp, from that episode's seed."""
    IMP_HEURISTIC = 31, ("chunk",)
    """The same in episodes that an expert's rule plays."""
    CRACK_GROWTH = 32, ("level",)
    """Cracks from which a model of deterioration is counted."""
    COORD_SUM = 33, ()
    """Targets of an episode of coord-sum, from that episode's seed."""
    LAYOUT = 34, ()
    """Places in an episode of gather with a random layout, from that episode's seed."""
    CENTRE = 40, ("life",)
    """Noise of edges where one place computes all agents."""
    RANDOM_PLAY = 50, ()
    """Actions of the episodes that messages are pre-trained on."""
    PRETRAINING = 51, ("stage", "epoch", "draw")
    """What one pass of a pre-training goes through first (draw 0), and samples of codes and latent
    states in each of its updates (from 1)."""
    BROADCAST = 60, ("graph", "agents")
    """Random graphs, sources and contacts of a study of broadcasts, by kind of graph and size."""
    RANDOM_EDGES = 61, ("agents",)
    """Edges at random, as many as a policy opens, in a study of its graphs."""
    EQUAL_EDGES = 62, ()
    """Which of equally frequent edges count as the most used."""
    SHUFFLED_EDGES = 63, ()
    """The same frequencies on other edges, to compare with."""

    def __init__(self, number: int, key: tuple[str, ...]) -> None:
        self.number = number
        self.key = key


def sequence(seed: int | None, role: Role, **key: int) -> np.random.SeedSequence:
    """The root of a stream.

    Args:
        seed: of the run; None takes the operating system's entropy.
        role: what is drawn.
        key: a number for each name in `role.key`.

    Raises:
        ValueError: other names, or a number outside [0, 2^32).
    """
    if key.keys() != set(role.key):
        raise ValueError(f"stream {role.name} is told apart by {role.key}, got {tuple(key)}")
    numbers = tuple(int(key[name]) for name in role.key)
    if not all(0 <= number < _LIMIT for number in numbers):
        raise ValueError(f"stream {role.name} takes numbers in [0, 2^32), got {key}")
    return np.random.SeedSequence(seed, spawn_key=(role.number, *numbers))


def generator(seed: int | None, role: Role, **key: int) -> np.random.Generator:
    """A stream of its own; see `sequence`."""
    return np.random.default_rng(sequence(seed, role, **key))


def number(seed: int | None, role: Role, **key: int) -> int:
    """A seed in [0, 2^63) for a generator that is not numpy's; see `sequence`."""
    return int(sequence(seed, role, **key).generate_state(1, np.uint64)[0] >> 1)
