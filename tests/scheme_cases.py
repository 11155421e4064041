"""Every registered scheme with its options: what tests of all schemes are parametrised over.

A scheme is tested from the moment that its file exists. Options that are true or false are turned
round one by one, which makes the variants of a scheme.
"""

from dataclasses import dataclass, fields
from typing import Any

from agents.found import scheme_of
from configs.extensions import SCHEME, names
from configs.schema import GateTiming


@dataclass(frozen=True, slots=True)
class Case:
    scheme: str
    options: str
    timing: GateTiming

    def __str__(self) -> str:
        return " ".join(filter(None, (self.scheme, self.options, self.timing)))


def cases() -> list[Case]:
    """Each scheme at each of its timings, and each of its variants at the first."""
    found: list[Case] = []
    for name in names(SCHEME):
        scheme = scheme_of(name)
        found += [Case(name, "", timing) for timing in scheme.timings]
        options: Any = scheme.Options
        for option in fields(options):
            if isinstance(option.default, bool):
                turned = f"{option.name}={str(not option.default).lower()}"
                found.append(Case(name, turned, scheme.timings[0]))
    return found
