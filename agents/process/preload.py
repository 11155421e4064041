"""What the forkserver loads once for all agents.

Everything that an agent's process imports is here before the first fork, and out of the garbage
collector's sight, so that its pages stay shared: a few megabytes per agent instead of thirty.
"""

import gc
import importlib

for module in ("runtime.terminal.processes", "agents.process.lockstep", "agents.process.realtime"):
    importlib.import_module(module)
gc.collect()
gc.freeze()
