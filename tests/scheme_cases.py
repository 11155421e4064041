"""Every registered scheme with its options: what tests of all schemes are parametrised over.

A scheme is tested from the moment that its file exists. Options that are true or false are turned
round one by one, and those that are chosen from a list take each word of it, which makes the
variants of a scheme.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from agents.comm.graphs import moves
from agents.found import scheme_of
from agents.policy import PolicySpec
from configs.extensions import SCHEME, names
from configs.options import read
from configs.schema import GateTiming, NetworkConfig


@dataclass(frozen=True, slots=True)
class Case:
    scheme: str
    options: str
    timing: GateTiming

    @property
    def needs_position(self) -> bool:
        scheme = scheme_of(self.scheme)
        return scheme.needs_position(read(scheme.Options, self.options, "--comm.options"))

    @property
    def moves(self) -> bool:
        return moves(self.scheme, self.options)

    @property
    def env_options(self) -> str:
        """What an environment on a map is to say for it. Neighbours are checked by positions."""
        said = ("position=true",) if self.needs_position or self.moves else ()
        return ",".join((*said, "neighbours=true") if self.moves else said)

    def applied(self, spec: PolicySpec) -> PolicySpec:
        """The same policy with this scheme."""
        scheme, network = scheme_of(self.scheme), NetworkConfig(message=spec.message)
        options = read(scheme.Options, self.options, "--comm.options")
        return replace(
            spec,
            message=scheme.message_size(network, options),
            scheme=scheme.parameters_of or self.scheme,
            scheme_options=self.options,
        )

    def __str__(self) -> str:
        return " ".join(filter(None, (self.scheme, self.options, self.timing)))


def cases() -> list[Case]:
    """Each scheme that agents run at each of its timings, and each of its variants at the first."""
    return [case for case in learner_cases() if not scheme_of(case.scheme).centralised]


def learner_cases() -> list[Case]:
    """The same of all schemes that can be trained."""
    found: list[Case] = []
    for name in names(SCHEME):
        scheme = scheme_of(name)
        found += [Case(name, "", timing) for timing in scheme.timings]
        found += [Case(name, turned, scheme.timings[0]) for turned in _turned(scheme.Options)]
    return found


def _turned(options: Any) -> Iterator[str]:
    hints = get_type_hints(options)
    for option in fields(options):
        if isinstance(option.default, bool):
            yield f"{option.name}={str(not option.default).lower()}"
        elif get_origin(hints[option.name]) is Literal:
            for word in get_args(hints[option.name]):
                if word != option.default:
                    yield f"{option.name}={word}"
