"""Watches whether a learned gate decides anything: one that is always open or always closed is a
finding, and nothing in returns or losses says so.

    open share of each update, as deployed -> GateWatch -> a line for the log, once
"""

NEARLY_ALL, NEARLY_NONE = 0.99, 0.01
PATIENCE = 200
"""Updates in a row before anything is said: a gate begins open, and passes through extremes."""


class GateWatch:
    """Says once that the gate stands open or shut, and again after it has moved in between."""

    def __init__(self) -> None:
        self._stands = ""
        self._updates = 0

    def look(self, open_share: float) -> str | None:
        """Take in an update's open share of the edges that could be used; what to log, if
        anything.
        """
        stands = "open" if open_share > NEARLY_ALL else "shut" if open_share < NEARLY_NONE else ""
        self._updates = self._updates + 1 if stands == self._stands else 1
        self._stands = stands
        if not stands or self._updates != PATIENCE:
            return None
        return (
            f"the gate has stood {stands} for {PATIENCE} updates ({open_share:.1%} of the edges): "
            "it decides nothing. "
            + (
                "See gate.price: without one nothing closes an edge."
                if stands == "open"
                else "See gate.price: too high or too early, it closes edges before they are worth "
                "anything."
            )
        )
