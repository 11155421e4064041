"""Every number that a person can set has a range: these tests find all of them."""

import dataclasses
import importlib
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from configs.extensions import ENVIRONMENT, SCHEME, load, load_address, own_names
from configs.load import ConfigError, load_run_config, parse_command_line, parse_run_config
from configs.ranges import Range, between, check_ranges, ranges_of, within
from configs.schema import MAX_SEED, LearnerConfig, RunConfig

HELP = ["--help-all"]
ROOT = Path(__file__).parents[2]


class Number(NamedTuple):
    """A field that holds a number, of the schema or of a command."""

    owner: type[Any]
    path: str
    """With the groups it lies in: learner.gamma."""
    flag: str
    whole: bool

    @property
    def range(self) -> Range | None:
        return ranges_of(self.owner).get(self.path.rpartition(".")[2])


def parse(options: type[Any], argv: Sequence[str]) -> Any:
    return parse_command_line(options, argv, prog="x")


def numbers_of(options: type[Any], group: str = "") -> Iterator[Number]:
    for name, hint in get_type_hints(options, include_extras=True).items():
        if name == "life":  # the launcher's own count, and no option
            continue
        bare, given_names, prefixed = hint, [], True
        if get_origin(hint) is Annotated:
            bare = get_args(hint)[0]
            given_names = [getattr(each, "name", None) for each in hint.__metadata__]
            prefixed = all(getattr(m, "prefix_name", None) is not False for m in hint.__metadata__)
        if dataclasses.is_dataclass(bare):
            yield from numbers_of(bare, f"{name}.")  # type: ignore[arg-type]  # it is a class
            continue
        flag = next(filter(None, given_names), name.replace("_", "-"))
        flag = f"--{group if prefixed else ''}{flag}"
        members = set(get_args(bare)) if get_origin(bare) in (UnionType, tuple) else {bare}
        members -= {NoneType, Ellipsis}
        if members <= {int, float}:
            yield Number(options, f"{group}{name}", flag, members == {int})


def commands() -> list[type[Any]]:
    """The dataclasses that our packages parse command lines into."""
    found: list[type[Any]] = []
    for package in ("runtime", "learner"):
        for source in sorted((ROOT / package).rglob("*.py")):
            for name in re.findall(
                r"parse_command_line\(\s*([A-Z]\w+),", source.read_text("utf-8")
            ):
                module = ".".join(source.relative_to(ROOT).with_suffix("").parts)
                found.append(getattr(importlib.import_module(module), name))
    trainers = {cast("Any", load(ENVIRONMENT, name)).trainer for name in own_names(ENVIRONMENT)}
    found += [cast("type[Any]", load_address(ENVIRONMENT, t)) for t in sorted(trainers) if t]
    pretrainers = {cast("Any", load(SCHEME, name)).pretrainer for name in own_names(SCHEME)}
    return found + [cast("type[Any]", load_address(SCHEME, p)) for p in sorted(pretrainers) if p]


COMMANDS = commands()
SCHEMA = list(numbers_of(RunConfig))
OPTIONS = [number for command in COMMANDS for number in numbers_of(command)]


def test_the_walk_finds_the_numbers_of_schema_and_commands() -> None:
    paths = {number.path for number in SCHEMA}
    assert {"num_agents", "learner.gamma", "env.copies", "runtime.nice"} <= paths
    flags = {number.flag for number in SCHEMA}
    assert {"--agents", "--learner.gamma", "--env-copies", "--metrics-port"} <= flags
    names = {command.__name__ for command in COMMANDS}
    assert {"EvaluateOptions", "OpponentOptions", "StudyOptions", "PretrainOptions"} <= names
    assert {"--gate.budget", "--network.beacon-delta"} <= {number.flag for number in OPTIONS}


@pytest.mark.parametrize(
    "number", SCHEMA + OPTIONS, ids=lambda n: f"{n.owner.__name__}.{n.path.rpartition('.')[2]}"
)
def test_every_number_has_a_finite_range_of_its_kind(number: Number) -> None:
    numbers = number.range
    assert numbers is not None, f"declare between(…) or within(…) beside {number.path}"
    assert -math.inf < numbers.low < numbers.high < math.inf
    assert numbers.whole is number.whole


# --- whatever lies outside is refused -------------------------------------------------------------


def outside(number: Number) -> st.SearchStrategy[float]:
    """Numbers that are not in the range, with those that people and programs come up with."""
    numbers = number.range
    assert numbers is not None
    low, high = numbers.low, numbers.high
    odd: list[float] = [10**20 - 1, -(10**20), 10**400, -1, low - 1, high + 1]
    drawn: st.SearchStrategy[float] = st.integers(max_value=math.ceil(low) - 1)
    drawn |= st.integers(min_value=math.floor(high) + 1)
    if not number.whole:
        odd += [math.nan, math.inf, -math.inf, 1e300, math.nextafter(low, -math.inf)]
        drawn |= st.floats(max_value=low, exclude_max=True)
        drawn |= st.floats(min_value=high, exclude_min=True)
        drawn = drawn.map(float)
    return (st.sampled_from(odd) | drawn).filter(lambda value: value not in numbers)


def refusal(number: Number) -> str:
    name = number.path
    if name == "num_agents" or not number.path.count("."):
        name = number.flag.removeprefix("--")
    return f"{name} must be {number.range}, got "


NUMBER = st.sampled_from(SCHEMA).flatmap(lambda n: st.tuples(st.just(n), outside(n)))


@given(NUMBER)
@settings(max_examples=400, deadline=None)
def test_a_file_cannot_set_a_number_outside_its_range(case: tuple[Number, float]) -> None:
    number, value = case
    tree: Any = value
    for key in reversed(number.path.split(".")):
        tree = {key: tree}
    with pytest.raises(ConfigError) as refused:
        parse_run_config(yaml.safe_dump(tree), "a.yaml")
    message = str(refused.value)
    assert message.startswith(f"a.yaml: {refusal(number)}"), message
    assert len(message.splitlines()) == 1
    assert len(message) < 600


@given(NUMBER)
@settings(max_examples=40, deadline=None)
@example((SCHEMA[0], 10**20))
def test_the_command_line_cannot_set_a_number_outside_its_range(
    case: tuple[Number, float],
) -> None:
    number, value = case
    with pytest.raises(ConfigError) as refused:
        load_run_config([f"{number.flag}={value}"])
    message = str(refused.value)
    assert message.startswith(refusal(number)), message
    assert "\n" not in message


def required_arguments(options: type[Any]) -> list[str]:
    """The fewest words that a command accepts besides the option that is tested."""
    words: list[str] = []
    for entry in dataclasses.fields(options):
        if entry.default is not dataclasses.MISSING:
            continue
        hint = get_type_hints(options, include_extras=True)[entry.name]
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        positional = "Positional" in str(hint)
        value = get_args(bare)[0] if get_origin(bare) is Literal else "x"
        if entry.name in ranges_of(options):
            value = str(ranges_of(options)[entry.name].high)
        words += [value] if positional else [f"--{entry.name.replace('_', '-')}={value}"]
    return words


@pytest.mark.parametrize("number", OPTIONS, ids=lambda n: f"{n.owner.__name__}.{n.path}")
def test_no_command_takes_a_number_outside_its_range(number: Number) -> None:
    assert number.range is not None
    bad: Sequence[float] = (10**20, -(10**20), -0.5, math.nan, math.inf, -math.inf, 1e300)
    if number.whole:
        bad = (10**20, -(10**20))
    for value in bad:
        words = required_arguments(number.owner)
        words = [word for word in words if not word.startswith(f"{number.flag}=")]
        with pytest.raises(ConfigError) as refused:
            parse(number.owner, [*words, f"{number.flag}={value}"])
        assert str(refused.value).startswith(f"{number.flag[2:]} must be {number.range}, got ")


# --- help and check are one -----------------------------------------------------------------------


def help_blocks(text: str) -> dict[str, str]:
    """What stands behind every option of a help text, in one line each."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip("│╭╮╰╯─ ") for line in plain.splitlines()]
    blocks: dict[str, str] = {}
    flag = ""
    for line in lines:
        if line.startswith("--"):
            flag = re.split(r"[ ,]", line)[0]
        blocks[flag] = f"{blocks.get(flag, '')} {line}"
    return blocks


def help_of(options: type[Any], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        _ = load_run_config(HELP) if options is RunConfig else parse(options, HELP)
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("options", [RunConfig, *COMMANDS], ids=lambda o: o.__name__)
def test_help_states_the_range_of_every_number(
    options: type[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = help_blocks(help_of(options, capsys))
    for number in numbers_of(options):
        assert str(number.range) in blocks[number.flag], blocks[number.flag]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """A command that a test makes up."""

    width: Annotated[int, between(1, 8)] = 1
    """Columns."""

    shares: Annotated[tuple[int, ...], between(0, 10)] = ()
    """Of each."""

    limit: Annotated[float | None, within(0.0, 1.0, above_low=True)] = None
    """None for no limit."""

    def __post_init__(self) -> None:
        check_ranges(self, "sizes")


def test_a_range_is_checked_for_every_number_of_a_list_and_not_for_none() -> None:
    assert Sizes(shares=(0, 10), limit=1.0).width == 1
    with pytest.raises(ValueError, match=r"^sizes.shares must be between 0 and 10, got 11$"):
        Sizes(shares=(3, 11))
    with pytest.raises(ValueError, match=r"^sizes.limit must be in \(0, 1\], got 0.0$"):
        Sizes(limit=0.0)


def test_a_number_that_python_would_not_print_is_described() -> None:
    with pytest.raises(ValueError, match=r"^sizes.width must be .*, got a number of about 5001 d"):
        Sizes(width=10**5000)


def test_limits_themselves_are_allowed_where_they_belong_to_the_range() -> None:
    assert RunConfig(seed=MAX_SEED).seed == MAX_SEED
    assert LearnerConfig(gamma=1.0, td_lambda=0.0, n_step=1).gamma == 1.0
    with pytest.raises(ValueError, match=r"learner\.gamma must be in \(0, 1\], got 0.0"):
        LearnerConfig(gamma=0.0)
