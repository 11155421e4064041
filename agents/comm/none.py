"""Agents that never speak: SOPS with its gates closed, and so with its policy files."""

from agents.comm.gating import Gating, Silence, Site
from agents.comm.sops import Sops
from configs.schema import GateMode


class NoComm(Sops):
    """One version of it, ready to run."""

    parameters_of = "sops"

    @classmethod
    def gate_mode(cls, mode: GateMode) -> GateMode:
        return "closed"

    @classmethod
    def gating(cls, site: Site) -> Gating:
        return Silence(site)


SCHEME = NoComm
