"""The learner as a run in one process sees it: learner/serial.py, which needs torch."""

from typing import Protocol

from runtime.net import wire


class SerialLearner(Protocol):
    """The learner in this very process (learner/serial.py)."""

    @property
    def is_behind(self) -> bool:
        """Whether it owes an update."""
        ...

    @property
    def rollouts_owed(self) -> int:
        """Full rollouts that it has not worked off."""
        ...

    @property
    def policy_version(self) -> int:
        """Newest that it has published."""
        ...

    @property
    def episodes_taken(self) -> int:
        """Episodes that it has taken in or given up."""
        ...

    def take(self, packet: wire.Trajectory | wire.EpisodeRecord) -> None:
        """Take in a part of an episode."""
        ...

    def guide(self, question: wire.GuideQuestion) -> wire.GuideAnswer:
        """What its guide does; only algorithms with one are asked."""
        ...

    def update(self) -> list[wire.Parameters]:
        """Take one update; what it publishes."""
        ...

    def first_version(self) -> list[wire.Parameters]:
        """What it publishes before its first update."""
        ...

    def evaluated(self, evaluation: wire.Evaluated) -> None:
        """An evaluation is over: keep the policy if none was better."""
        ...

    def finish(self) -> list[wire.Parameters]:
        """Training is over: publish the last version and save."""
        ...

    def turn(self) -> None:
        """Do what time has brought, such as checkpoints."""
        ...

    def figures(self) -> dict[str, float]: ...

    def leave(self) -> str:
        """Save for the last time; why what is on disk is not the newest, or ""."""
        ...

    def close(self) -> None: ...
