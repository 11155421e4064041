"""The process that forks agents: what they import is loaded in it, once.

preloading("agents.process.preload") -> forkserver, which imports it -> fork -> agent 0, agent 1, …
"""

import multiprocessing
import os
import sys
from multiprocessing.context import BaseContext


def preloading(module: str) -> BaseContext:
    """A context that forks from a process which has imported `module`.

    That process looks for modules where this one does. Left to itself it looks into the current
    folder first, and every agent would run a user's own `agents/` that lies there: Python hands
    `sys.path` to the forked processes, but to the forkserver only after its preload.

    Changes this process's environment for good, because Python starts a forkserver that has died
    again without asking. Made for the node's process, which starts agents and nothing else.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context
