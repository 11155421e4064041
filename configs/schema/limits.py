"""The largest values that a setting may take, and why."""

MAX_AGENTS = 4096
"""Agent ids travel as 16 bits, as do masks of the backbone's edges: 4096 agents have 12 offsets."""

MAX_COPIES = 1024
"""Environment copies that one packet may speak of."""

MAX_SHARDS = 64
"""Processes that environment copies may be shared out among."""

MAX_OFFSETS = 12
"""Edges of the backbone that an agent has at most, those of MAX_AGENTS."""

POSITION = 2
"""Numbers of a position, x and y, with which observations may end."""

MAX_CYCLES = 60_000
"""Steps of an episode."""

MAX_STEPS = 10**12
"""Environment steps of a run: three years at ten thousand a second."""

MAX_UPDATES = 10**9
"""Gradient steps between two events."""

MAX_EPISODES = 10**6
"""Episodes of a replay, a journal or an evaluation."""

MAX_THREADS = 512
"""Threads of a process."""

MAX_PORT = 65_535

MAX_SEED = 2**31 - 1

START_S_PER_AGENT = 0.2
"""More time for a start with each agent: a quiet machine with two cores takes 0.03 s."""

MOST_EDGES = 256
"""Edges that an agent may have in one direction: each takes a socket and descriptors of its own."""
