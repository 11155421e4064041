"""Ranges of numbers, declared once beside the field: help text and check both read them there.

    copies: Annotated[int, between(1, 1024)] = 1                   at the field
    check_ranges(self)                                             in __post_init__

    --help -> "(between 1 and 1024; default: 1)"
    copies=0 -> ValueError: copies must be between 1 and 1024, got 0

Every number that a person can set has a range, and every float in it is finite: a test walks the
schema and the options of all commands. What depends on a second field stays in `__post_init__`.
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import tyro

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PRINTED_BITS = 128
"""Whole numbers of more bits are described: Python prints no more than 4300 digits."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Numbers from `low` to `high`, and perhaps one more with a meaning of its own."""

    low: float
    high: float
    whole: bool
    above_low: bool = False
    """`low` itself does not belong to it."""
    below_high: bool = False
    """`high` itself does not belong to it."""
    other: float | None = None
    meaning: str = ""
    """What `other` stands for."""

    def __contains__(self, value: float) -> bool:
        if value == self.other:
            return True
        from_low = self.low < value if self.above_low else self.low <= value
        to_high = value < self.high if self.below_high else value <= self.high
        return from_low and to_high

    def __str__(self) -> str:
        low, high = _written(self.low), _written(self.high)
        if self.whole:
            text = f"between {low} and {high}"
        else:
            text = f"in {'[('[self.above_low]}{low}, {high}{'])'[self.below_high]}"
        return text if self.other is None else f"{text}, or {_written(self.other)} {self.meaning}"

    def __call__(self, default: str) -> str:
        """What tyro writes behind the help of an option with this default."""
        return f"({self}; default: {default})"


def between(low: int, high: int, *, required: bool = False) -> Any:
    """Whole numbers from `low` to `high`, for `Annotated` of int, int | None or tuple[int, ...].

    Args:
        required: the option has no default, so that its help shows the range with its name.
    """
    numbers = Range(low=low, high=high, whole=True)
    metavar = f"INT ({numbers})" if required else None
    return tyro.conf.arg(help_behavior_hint=numbers, metavar=metavar)


def within(
    low: float,
    high: float,
    *,
    above_low: bool = False,
    below_high: bool = False,
    other: tuple[float, str] | None = None,
) -> Any:
    """Numbers from `low` to `high`, for `Annotated` of float or float | None.

    Args:
        above_low: `low` itself is refused.
        below_high: `high` itself is refused.
        other: one more number, and what it means.
    """
    value, meaning = (None, "") if other is None else other
    numbers = Range(
        low=low,
        high=high,
        whole=False,
        above_low=above_low,
        below_high=below_high,
        other=value,
        meaning=meaning,
    )
    return tyro.conf.arg(help_behavior_hint=numbers)


@cache
def ranges_of(options: "type[DataclassInstance]") -> Mapping[str, Range]:
    """The declared ranges of a dataclass by field."""
    return {name: numbers for name, (_, numbers) in _declared(options).items()}


def check_ranges(options: "DataclassInstance", group: str = "") -> None:
    """Refuse a number outside its field's range; None and what has no range pass.

    Args:
        group: what the fields belong to in the configuration (`learner`), for the message;
            without one they are called as on the command line.

    Raises:
        ValueError: names the field, its range and the value.
    """
    for name, (flag, numbers) in _declared(type(options)).items():
        value: Any = getattr(options, name)
        for number in cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,):
            if number is not None and number not in numbers:
                called = f"{group}.{name}" if group else flag
                raise ValueError(f"{called} must be {numbers}, got {_shown(number)}")


@cache
def _declared(options: "type[DataclassInstance]") -> Mapping[str, tuple[str, Range]]:
    """Name on the command line and range of each field that has one."""
    hints = get_type_hints(options, include_extras=True)
    declared: dict[str, tuple[str, Range]] = {}
    for field in dataclasses.fields(options):
        given = getattr(hints[field.name], "__metadata__", ())
        ranges = [getattr(each, "help_behavior_hint", None) for each in given]
        found = next((each for each in ranges if isinstance(each, Range)), None)
        if found is not None:
            names = [getattr(each, "name", None) for each in given]
            flag = next(filter(None, names), field.name.replace("_", "-"))
            declared[field.name] = flag, found
    return declared


def _written(bound: float) -> str:
    """A bound as people write it: 0.5, 60000, 10^12."""
    if isinstance(bound, float) and not bound.is_integer():
        return f"{bound:g}"
    whole = int(bound)
    power = round(math.log10(whole)) if whole > 0 else 0
    return f"10^{power}" if power >= 6 and whole == 10**power else f"{whole}"


def _shown(value: float) -> str:
    if isinstance(value, int) and value.bit_length() > _PRINTED_BITS:
        return f"a number of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    return f"{value}"
