"""Watches whether a learned gate decides anything: one that is always open or always closed is a
finding, and nothing in returns or losses says so.

    open share of each update, as deployed; env_steps -> GateWatch -> a line for the log, once

A gate that will be charged later stands open until then, as it should: nothing is said of it before
its price has risen in full.
"""

from configs.schema import GateConfig

NEARLY_ALL, NEARLY_NONE = 0.99, 0.01
PATIENCE = 200
"""Updates in a row before anything is said: a gate begins open, and passes through extremes."""


class GateWatch:
    """Says once that the gate stands open or shut, and again after it has moved in between."""

    def __init__(self, gate: GateConfig, steps: int) -> None:
        """Watch the gate of a run of so many environment steps."""
        self._gate = gate
        self._is_charged = gate.price > 0.0 and gate.price_start < steps
        self._charged_from = gate.price_start + gate.price_steps
        self._stands = ""
        self._updates = 0

    def look(self, open_share: float, env_steps: int) -> str | None:
        """Take in an update's open share of the edges that could be used, after so many
        environment steps; what to log, if anything.
        """
        stands = "open" if open_share > NEARLY_ALL else "shut" if open_share < NEARLY_NONE else ""
        if stands == "open" and self._is_charged and env_steps < self._charged_from:
            stands = ""
        self._updates = self._updates + 1 if stands == self._stands else 1
        self._stands = stands
        if not stands or self._updates != PATIENCE:
            return None
        return (
            f"the gate has stood {stands} for {PATIENCE} updates ({open_share:.1%} of the edges): "
            f"it decides nothing. {self._advice(stands)}"
        )

    def _advice(self, stands: str) -> str:
        gate = self._gate
        if stands == "shut":
            return (
                "See gate.price: too high or too early, it closes edges before they are worth "
                "anything."
            )
        if self._is_charged:
            return (
                f"See gate.price: {gate.price:g} has not closed an edge. It is too low, or "
                "gate.price_loss waives it."
            )
        if gate.price > 0.0:
            return f"See gate.price_start: the run ends before {gate.price_start:,} steps."
        return "See gate.price: without one nothing closes an edge."
