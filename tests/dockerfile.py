"""A Dockerfile, read as far as ours goes: stages and their instructions.

text -> stages -> {name: Stage(base, instructions)}
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    """What FROM names, as it stands there."""
    instructions: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(RUN, its command), in order."""

    def all(self, name: str) -> list[str]:
        return [argument for found, argument in self.instructions if found == name]


def stages(text: str) -> Mapping[str, Stage]:
    """By the names that AS gives them.

    Raises:
        ValueError: a stage without a name, or an instruction before the first that is not ARG.
    """
    found: dict[str, Stage] = {}
    for name, argument in _instructions(text):
        if name == "FROM":
            base, word, stage = argument.split()
            if word.upper() != "AS":
                raise ValueError(f"FROM {argument}: a stage without a name")
            found[stage] = Stage(base)
        elif found:
            found[next(reversed(found))].instructions.append((name, argument))
        elif name != "ARG":
            raise ValueError(f"{name} before the first FROM")
    return found


def lineage(found: Mapping[str, Stage], name: str) -> list[Stage]:
    """A stage and those that it is made from, the first first."""
    stage = found[name]
    return [*(lineage(found, stage.base) if stage.base in found else []), stage]


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, argument = line.partition(" ")
        yield name.upper(), argument.strip()
