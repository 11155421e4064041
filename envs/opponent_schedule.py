"""The opponent schedule: several opponents, one after the other or mixed.

    "random@0, random+scripted@50000, scripted+policy.safetensors@150000"
        -> OpponentSchedule -> draw(training steps, chance), in_turn(evaluation episode)
        -> index of an opponent

Nobody learns to hit before somebody is there to be hit, and who has met only one opponent knows how
to beat that one. So training begins with easy opponents and goes on to a mixture.
"""

import bisect
from dataclasses import dataclass
from itertools import pairwise

from configs.schema import MAX_STEPS


@dataclass(frozen=True, slots=True)
class OpponentSchedule:
    """Phases of training, each with the opponents that its episodes are shared out among."""

    names: tuple[str, ...]
    """Every opponent once, in the order of its first appearance."""
    begins: tuple[int, ...]
    """Training steps at which each phase begins; the first is 0."""
    phases: tuple[tuple[int, ...], ...]
    """Indices into `names`; who is named twice in a phase plays twice as often."""
    evaluated: tuple[int, ...]
    """Indices of those that evaluation episodes are played against, in turn."""

    @classmethod
    def parse(cls, text: str, evaluation: str = "") -> "OpponentSchedule":
        """Read phases separated by commas: opponents joined by +, and @ the step they begin at.

        A name alone is a schedule of one phase with one opponent.

        Args:
            text: of training.
            evaluation: opponents joined by +; empty takes those of the last phase.

        Raises:
            ValueError: a phase without opponents, or steps that do not rise from 0.
        """
        names: list[str] = []
        begins: list[int] = []
        phases: list[tuple[int, ...]] = []
        for number, phase in enumerate(text.split(",")):
            who, at, step = phase.strip().rpartition("@")
            if not at:
                who, step = step, "0" if number == 0 else ""
            if not step.isdecimal():
                raise ValueError(
                    f"opponent phase {phase.strip()!r} must say when it begins, as in "
                    "scripted@50000"
                )
            # More digits than a run may have steps are not read: Python refuses some of them.
            begins.append(int(step) if len(step) < 20 else MAX_STEPS + 1)
            phases.append(_indices(who, names))
        if begins[0] != 0 or begins[-1] > MAX_STEPS or any(b <= a for a, b in pairwise(begins)):
            raise ValueError(
                f"opponent phases must begin at 0 and rise to at most {MAX_STEPS}, got "
                f"{text[:100]!r}"
            )
        evaluated = _indices(evaluation, names) if evaluation else phases[-1]
        return cls(tuple(names), tuple(begins), tuple(phases), evaluated)

    def draw(self, env_steps: int, chance: float) -> int:
        """Index of the opponent of an episode that begins after `env_steps` training steps.

        Args:
            chance: uniform number of [0, 1).
        """
        phase = self.phases[bisect.bisect_right(self.begins, env_steps) - 1]
        return phase[int(chance * len(phase))]

    def in_turn(self, episode: int) -> int:
        """Index of the opponent of an evaluation episode, by how many have begun before it."""
        return self.evaluated[episode % len(self.evaluated)]


def _indices(joined: str, names: list[str]) -> tuple[int, ...]:
    """Where opponents joined by + are in `names`, which grows by those that are new."""
    drawn = [name.strip() for name in joined.split("+")]
    if "" in drawn:
        raise ValueError(f"opponents {joined.strip()!r} leave one unnamed")
    names += [name for name in dict.fromkeys(drawn) if name not in names]
    return tuple(names.index(name) for name in drawn)
