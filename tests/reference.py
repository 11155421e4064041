"""docs/reference.md, made from the code: `python -m tests.reference` writes it.

    schema (fields, docstrings, ranges, defaults) ─┐
    names of extensions, their first sentences   ──┼-> Markdown
    (docs/fields.md says what runs write)          ┘

tests/test_reference.py holds the file against this, so that the two cannot drift apart.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from configs import extensions
from configs.extensions import KINDS, Kind
from configs.ranges import Range
from configs.schema import RunConfig

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "reference.md"

_HEAD = """\
# Reference

Made from the code by `python -m tests.reference`; a test holds it against the code. What runs write
is in [fields.md](fields.md).

Values come from the defaults below, then the preset of the environment
(`configs/<environment>.yaml`), then `--config FILE`, then the command line. In a file the keys are
nested as the groups are: `learner: {gamma: 0.95}`. Switches are turned off by `--no-…`: telemetry
by `--runtime.no-telemetry`.
"""


def page() -> str:
    """The whole document."""
    names = [part for kind in KINDS for part in _kind(kind)]
    return "\n".join([_HEAD, "## Names", "", *names, *_options()])


def _kind(kind: Kind) -> Iterator[str]:
    yield f"### `{kind.option}`"
    yield ""
    yield f"| {kind.what} | |"
    yield "|---|---|"
    for name in extensions.own_names(kind):
        yield f"| `{name}` | {_first_sentence(kind, name)} |"
    yield ""
    yield (f"Or `package.module:attribute`, or what installed packages announce as `{kind.group}`.")
    yield ""


def _first_sentence(kind: Kind, name: str) -> str:
    """Of the module's docstring, read without importing it."""
    path = PROJECT.joinpath(*kind.package.split("."), name.replace("-", "_"))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return _cell(text.partition("\n\n")[0])


def _options() -> Iterator[str]:
    root = [entry for entry in fields(RunConfig) if not _is_group(RunConfig, entry)]
    yield from _table("Run", RunConfig, root, "")
    for entry in fields(RunConfig):
        if _is_group(RunConfig, entry):
            group = get_type_hints(RunConfig)[entry.name]
            yield from _table(f"`{entry.name}`", group, list(fields(group)), f"{entry.name}.")


def _is_group(schema: type, entry: Field[Any]) -> bool:
    return is_dataclass(get_type_hints(schema)[entry.name])


def _table(title: str, schema: type, entries: list[Field[Any]], prefix: str) -> Iterator[str]:
    documents, hints = _docstrings(schema), get_type_hints(schema, include_extras=True)
    yield f"## Options: {title}"
    yield ""
    yield "| option | takes | default | |"
    yield "|---|---|---|---|"
    for entry in entries:
        marks = get_args(hints[entry.name])[1:] if _is_annotated(hints[entry.name]) else ()
        if any("Suppress" in str(mark) for mark in marks):
            continue
        flag = _flag(entry.name, marks, prefix)
        takes = _takes(hints[entry.name], marks)
        yield f"| `{flag}` | {takes} | {_default(entry)} | {_cell(documents[entry.name])} |"
    yield ""


def _is_annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated


def _flag(name: str, marks: tuple[Any, ...], prefix: str) -> str:
    own = next((mark.name for mark in marks if getattr(mark, "name", None)), None)
    bare = any(getattr(mark, "prefix_name", None) is False for mark in marks)
    path = own or name
    return "--" + (path if bare or (own and "." in own) else f"{prefix}{path}").replace("_", "-")


def _takes(hint: Any, marks: tuple[Any, ...]) -> str:
    kind: Any = get_args(hint)[0] if _is_annotated(hint) else hint
    ranges = [getattr(mark, "help_behavior_hint", None) for mark in marks]
    number = next((str(found) for found in ranges if isinstance(found, Range)), None)
    if number is not None:
        return number
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    return {str: "text", bool: "switch"}.get(kind, "a list")


def _default(entry: Field[Any]) -> str:
    value: Any = entry.default
    if value is MISSING or value in ("", ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _docstrings(schema: type) -> dict[str, str]:
    """Field -> the string that follows it in the class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    body = cast("ast.ClassDef", tree).body
    found: dict[str, str] = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            is_text = isinstance(following, ast.Expr)
            found[statement.target.id] = ast.literal_eval(following.value) if is_text else ""
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
