"""How an episode looks, in pictures and on the page alike: colours and words.

Colours are those of Okabe and Ito (2008), which people with any kind of colour blindness tell
apart. The learning team is vermilion, because Battle calls it red.
"""

import numpy as np

from configs.arrays import IntArray
from envs.scene import Map, Ring, Scene
from runtime.seeing.trace import Trace

TEAMS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
"""Of each team, the learning one first."""
ANSWERS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Of the colours that a question may have as its answer."""
EDGE = "#3A3A3A"
GROUND, WALL, TEXT, FAINT = "#F7F5F0", "#8C8C88", "#222222", "#5F5F5C"
HEARS, SAYS = "#009E73", "#7B3294"
"""Edges to and from the agent that somebody has chosen."""


def title(trace: Trace) -> str:
    """What is played: battle, 20 agents against scripted."""
    against = f" against {trace.opponent}" if trace.opponent else ""
    return f"{trace.env}, {trace.num_agents} agents{against}"


def clock(trace: Trace, moment: int) -> str:
    """Which step the picture shows."""
    return f"step {moment} of {trace.steps}"


def standing(trace: Trace, moment: int) -> str:
    """Who is left, or who is right."""
    scene = trace.scenes[moment]
    if isinstance(scene, Map):
        return ", ".join(
            f"{team.name} {int(team.alive_U.sum())} of {len(team.alive_U)}" for team in scene.teams
        )
    if isinstance(scene, Ring):
        right = int((answers(trace, moment) == scene.colour).sum())
        return f"{right} of {trace.num_agents} agents name the right colour"
    return f"{int(alive(trace, moment).sum())} of {trace.num_agents} agents"


def traffic(trace: Trace, moment: int) -> str:
    """Edges that are open, and what they carry for each agent."""
    if moment >= trace.steps:
        return outcome(trace)
    number = int(trace.open_TNK[moment].sum())
    living = max(int(trace.alive_TN[moment].sum()), 1)
    share = number / (living * len(trace.offsets))
    per_agent = number * trace.message_bytes / living
    return f"{number} open edges ({share:.0%}), {per_agent:.0f} message bytes per agent"


def outcome(trace: Trace) -> str:
    """How it ended."""
    result = {True: "won", False: "not won", None: "end"}[trace.won]
    if not trace.ended:
        result = "stopped here"
    figures = [f"return {trace.episode_return:.3g}"]
    figures += [f"{name} {value:.3g}" for name, value in trace.metrics.items()]
    return f"{result}, {', '.join(figures)}"


def alive(trace: Trace, moment: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """[N] at this moment; at the end as before the last step, where no scene says."""
    scene = trace.scenes[moment]
    if isinstance(scene, Map):
        return scene.teams[0].alive_U
    return trace.alive_TN[min(moment, trace.steps - 1)]


def answers(trace: Trace, moment: int) -> IntArray:
    """[N] what each agent names in this step; at the end, in the last."""
    return trace.actions_TN[min(moment, trace.steps - 1)]


def places(
    trace: Trace, moment: int, scene: Scene | None = None
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """[N, 2] where agents are drawn, in [0, 1] from left to right and from top to bottom.

    On a map it is the middle of their body (outside for the dead), else a place on a circle, agent
    0 at the top and the others clockwise.
    """
    scene = trace.scenes[moment] if scene is None else scene
    if isinstance(scene, Map):
        team = scene.teams[0]
        return (team.positions_U2 + team.body / 2) / [scene.width, scene.height]
    angle_N = 2 * np.pi * np.arange(trace.num_agents) / trace.num_agents
    return 0.5 + 0.4 * np.stack([np.sin(angle_N), -np.cos(angle_N)], axis=1)
