"""Options of an extension: text on the command line, a dataclass for the extension.

    "n=8,max_cycles=50" -> {"n": 8, "max_cycles": 50} -> Options(n=8, max_cycles=50)

The schema cannot know what an extension takes, so it carries the text; the extension has a frozen
dataclass, whose fields are checked here and whose ranges are its own (configs/ranges.py).
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import dacite

from configs import bounded
from configs.errors import UserError

_OptionsT = TypeVar("_OptionsT")


class OptionsError(UserError, ValueError):
    """The text cannot be read, or names what the extension does not have."""


def parse(text: str, flag: str) -> dict[str, Any]:
    """The options by name; values are YAML: 8, 0.5, true, [1, 2], words.

    Args:
        flag: the option that the text was given to, for errors.

    Raises:
        OptionsError: not of the form name=value,name=value.
    """
    options: dict[str, Any] = {}
    for item in _split(text, flag):
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise OptionsError(f"{flag} takes name=value,name=value, got {bounded.brief(item)}")
        if name in options:
            raise OptionsError(f"{flag} gives {name} twice")
        try:
            options[name] = bounded.parse_yaml(value)
        except bounded.Unfit as error:
            raise OptionsError(f"{flag} {name}: {error}") from error
    return options


def read(options: type[_OptionsT], text: str, flag: str) -> _OptionsT:
    """The options as the extension's own dataclass.

    Raises:
        OptionsError: an unknown name, a wrong type or a value out of range.
    """
    given = parse(text, flag)
    known = [field.name for field in fields(cast("Any", options))]
    for name in given:
        if name not in known:
            there = f"known: {', '.join(known)}" if known else "it takes none"
            raise OptionsError(f"{flag} has no {name} ({there})")
    try:
        return dacite.from_dict(options, _fitting(options, given), dacite.Config(strict=True))
    except dacite.WrongTypeError as error:
        wanted = _wanted(cast("Any", error).field_type)
        raise OptionsError(
            f"{flag} {error.field_path} must be {wanted}, got {bounded.brief(error.value)}"
        ) from error
    except (dacite.DaciteError, ValueError) as error:
        raise OptionsError(f"{flag}: {error}") from error


def _wanted(field_type: Any) -> str:
    """What a field takes, in words: int, or a, b or c."""
    if get_origin(field_type) is not Literal:
        return f"{getattr(field_type, '__name__', field_type)}"
    *others, last = map(str, get_args(field_type))
    return f"{', '.join(others)} or {last}" if others else last


def _fitting(options: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers stand for real ones where these are asked for, and lists for tuples."""
    wanted = {field.name: str(field.type) for field in fields(options)}
    fitting = dict(given)
    for name, value in given.items():
        if wanted[name] in (str(float), "float") and type(value) is int:
            fitting[name] = float(value)
        elif wanted[name].startswith("tuple[") and type(value) is list:
            fitting[name] = tuple(cast("list[Any]", value))
    return fitting


def _split(text: str, flag: str) -> list[str]:
    """The items between commas that stand outside of brackets."""
    items, depth, start = list[str](), 0, 0
    for at, sign in enumerate(text):
        depth += (sign in "[{(") - (sign in "]})")
        if depth < 0:
            raise OptionsError(f"{flag} closes a bracket that is not open: {bounded.brief(text)}")
        if sign == "," and depth == 0:
            items.append(text[start:at])
            start = at + 1
    if depth:
        raise OptionsError(f"{flag} leaves a bracket open: {bounded.brief(text)}")
    if text.strip():
        items.append(text[start:])
    return items
