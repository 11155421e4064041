"""Everybody hears everybody, or everybody its neighbours: attention over their messages.

    own last message and those of all others -> attention by h -> message -> Q head, everybody

The dense end of what SOPS thins out: its message (agents/comm/attention.py) on the complete graph,
with no gate, for at most 257 agents. An agent sends N - 1 messages in each step. With
`neighbours=true` it sends to those alone who are its neighbours in that step.
"""

from dataclasses import dataclass

from agents.comm.attention import Attention
from agents.comm.everybody import Everybody


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    neighbours: bool = False
    """Hear and be heard by neighbours alone, who change as agents move."""


class Full(Everybody, Attention):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.full:FullTwin"


SCHEME = Full
