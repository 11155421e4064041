"""The reference says what the code says."""

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from configs.schema import RunConfig
from tests.reference import PAGE, page


def test_the_reference_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.reference`"


def test_every_option_has_a_row_and_a_sentence() -> None:
    text = page()
    rows = [line for line in text.splitlines() if line.startswith("| `--")]
    assert len(rows) >= leaves(RunConfig) - 1  # `life` is the launcher's own
    assert all(line.split("|")[-2].strip() for line in rows)


def leaves(schema: Any) -> int:
    hints = get_type_hints(schema)
    return sum(
        leaves(hints[entry.name]) if is_dataclass(hints[entry.name]) else 1
        for entry in fields(schema)
    )
