"""One RunConfig from four sources, and every mistake in them as one clear line.

    schema defaults < configs/<env>.yaml < --config FILE < command line  ->  RunConfig

With `--resume DIR` the base is DIR/config.yaml, the resolved configuration of that run, instead of
the preset; the command line still has the last word.
"""

import codecs
import contextlib
import difflib
import io
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NoReturn,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import dacite
import tyro
import yaml

from configs import bounded, extensions
from configs.algorithms.described import check, check_rollout, check_sampled, describe
from configs.bounded import brief
from configs.effects import without_effect
from configs.errors import UserError
from configs.resolved import is_intact, is_signed, signed
from configs.resumed import forbidden_change
from configs.run_files import RESOLVED
from configs.schema import EnvConfig, RunConfig, SparseLayer
from configs.short_help import LAUNCH, Line, short_help
from configs.version import version_line

_LONGEST_LINE = 2000
"""Characters of an error; a value that is shown in it takes far less."""

_LAST_GROUP, _LAST_KEY = "runtime", "runs_dir"
"""What stands at the end of every file that was written before there were checksums."""
_PRESETS = Path(__file__).parent
_MAY_BE_EMPTY = (
    *("--evaluation-opponent", "--agents.adviser", "--learner.teacher", "--pretrained"),
    *("--comm.options", "--network.options", "--algorithm.options", "--env.options"),
)
"""Options that presets and files set and an empty value takes back."""
_OptionsT = TypeVar("_OptionsT")
_LAYERS = tuple[SparseLayer, ...]
_NUMBERS = tuple[int, ...]


Population = Callable[[EnvConfig], int | None]
"""`envs.registry.population_of`: what knows environments imports this module."""


class ConfigError(UserError, ValueError):
    """A preset, a file or the command line does not fit the schema."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Options:
    """Train agents that are processes of their own, and watch them talk.

    Values come from the schema, then the preset of the environment, then --config FILE, then these
    options; the defaults shown are those that apply to this command line.
    """

    config: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """YAML file with the keys of configs/schema/, merged over the environment's preset."""

    run: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)


def load_run_config(
    argv: Sequence[str],
    *,
    prog: str = "python -m runtime.launch",
    remark: Callable[[str], None] | None = None,
    population: Population | None = None,
) -> RunConfig:
    """Resolve the configuration of a run; `--help` prints the options that matter, `--help-all` all
    of them, and both exit with 0.

    Args:
        remark: told, in a line each, which of the options have no effect in this run.
        population: says how many agents an environment has that decides it for itself; so many are
            the default then.

    Raises:
        ConfigError: one line that names the file or flag, the value, and the way out.
        ValueError: of `population`.
    """
    _require_values(argv)
    file, resume = value_of(argv, "--config"), value_of(argv, "--resume")
    if file is not None and resume is not None:
        raise ConfigError(
            f"--config {file} cannot be combined with --resume {resume}: a resumed run continues "
            f"with its own {RESOLVED}; override single values on the command line"
        )
    base = (
        _resumed(Path(resume))
        if resume is not None
        else _preset_and_file(
            value_of(argv, "--env"),
            value_of(argv, "--env.options"),
            value_of(argv, "--algorithm"),
            None if file is None else Path(file),
            population,
        )
    )
    if resume is None and (base.policy or value_of(argv, "--policy")):
        base = _after_training(base)
    options = parse_command_line(
        _Options, argv, default=_Options(run=base), prog=prog, short=LAUNCH
    )
    if resume is not None and options.run.env.name != base.env.name:
        raise ConfigError(
            f"--env {options.run.env.name} does not fit --resume {resume}, a run of {base.env.name}"
        )
    for name in ("policy", "pretrained"):
        asked = getattr(options.run, name)
        if resume is not None and asked != getattr(base, name):
            raise ConfigError(
                f"--{name} {asked} cannot be combined with --resume {resume}: a resumed "
                "run continues with its own policy; leave out --resume to begin a run with another"
            )
    if resume is not None and (change := forbidden_change(base, options.run)) is not None:
        raise ConfigError(
            f"{change.name} {change.asked} does not fit --resume {resume}, a run with "
            f"{change.before}, whose checkpoint stands on it: begin a new run, with --policy "
            f"{resume}/policy.safetensors if the network is to stay"
        )
    try:
        check(options.run.learner)
        check_rollout(options.run)
        check_sampled(options.run)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if remark is not None:
        usual = base if resume is not None else preset_for(options.run.env.name)
        if resume is None and options.run.policy:
            usual = _after_training(usual)
        for line in without_effect(options.run, usual):
            remark(line)
    return options.run


def _after_training(base: RunConfig) -> RunConfig:
    """Schedules at their ends: whoever can play already needs no beginner's dice or opponents."""
    phase = base.env.opponent.rsplit(",", 1)[-1].strip()
    who, at, _ = phase.rpartition("@")
    return replace(
        base,
        env=replace(base.env, opponent=who if at else phase),
        gate=replace(
            base.gate,
            temperature_start=base.gate.temperature_start
            if base.gate.temperature_schedule == "constant"
            else base.gate.temperature_end,
            price_start=0,
            price_steps=0,
        ),
        agents=replace(base.agents, epsilon_start=base.agents.epsilon_end),
        learner=replace(base.learner, teacher=""),
    )


def preset_for(env_name: str) -> RunConfig:
    """Schema defaults and the preset of the environment's family if it has one, the base of
    commands with their own options.

    Raises:
        ConfigError: no such environment.
    """
    return _build(_preset(env_name), str(_preset_path(env_name)))


def dump_run_config(config: RunConfig) -> str:
    """Every value as YAML; `parse_run_config` is the inverse."""
    return yaml.safe_dump(asdict(config), sort_keys=False)


def parse_run_config(text: str, origin: str = RESOLVED) -> RunConfig:
    """Read what `dump_run_config` has written; `origin` names the source in errors.

    Raises:
        ConfigError: not YAML, a misspelt key, a wrong type or a value out of range.
    """
    return _build(_mapping(text, origin), origin)


def resumed_folder(argv: Sequence[str]) -> Path | None:
    """The folder that a command line resumes, ahead of its parsing; None without one."""
    resume = value_of(argv, "--resume")
    return None if resume is None else Path(resume)


def resolved_text(config: RunConfig) -> str:
    """The content of a run's config.yaml; `read_resolved` is the inverse."""
    return signed(dump_run_config(config))


def read_resolved(folder: Path) -> tuple[RunConfig, bool]:
    """Read a run's config.yaml, and say whether its checksum vouches for it.

    A file without a checksum is of an older version, or somebody has changed it on purpose.

    Raises:
        ConfigError: unreadable, damaged, cut short, or not a configuration.
    """
    path = folder / RESOLVED
    text = _read(path)
    if is_signed(text) and not is_intact(text):
        raise ConfigError(
            f"{path} is damaged or was changed, its checksum does not match: give changed values "
            "on the command line, or remove the file's first line to take it as it is"
        )
    raw = _mapping(text, str(path))
    if not is_signed(text) and _LAST_KEY not in cast("dict[str, Any]", raw.get(_LAST_GROUP) or {}):
        raise ConfigError(f"{path} is cut short: it has no {_LAST_GROUP}.{_LAST_KEY}")
    return _build(raw, str(path)), is_signed(text)


def parse_command_line(
    options: type[_OptionsT],
    argv: Sequence[str],
    *,
    prog: str,
    default: _OptionsT | None = None,
    short: Sequence[Line] = (),
) -> _OptionsT:
    """Parse flags into a dataclass by tyro; what tyro refuses becomes a ConfigError of one line.

    `--help`, `--help-all` and `--version` print what they are asked for and exit with 0.

    Args:
        short: what `--help` shows of a command with many options; empty shows all.
    """
    if "--version" in argv:
        print(version_line())
        raise SystemExit(0)
    prog = _as_called(prog)
    _require_values(argv)
    asks_help, asks_all = not {"-h", "--help"}.isdisjoint(argv), "--help-all" in argv
    if asks_help and not asks_all and short:
        about = (options.__doc__ or "").partition("\n")[0]
        defaults = options if default is None else getattr(default, "run", default)
        print(short_help(prog, about, short, defaults))
        raise SystemExit(0)
    argv = ["--help" if word == "--help-all" else word for word in argv]
    complaint = io.StringIO()
    # tyro looks at stdout to see with which characters it may draw: a box around an error, which we
    # take apart, and a help text, which has to suit the terminal.
    encoding = codecs.lookup(sys.stdout.encoding).name if asks_help or asks_all else "utf-8"
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaint):
            if default is None:
                return tyro.cli(options, args=argv, prog=prog)
            return tyro.cli(options, args=argv, default=default, prog=prog)
    except SystemExit as stop:
        if not stop.code:
            out.seek(0)
            print(out.read())
            raise
        raise ConfigError(_one_line(complaint.getvalue())) from None
    except ValueError as error:  # from __post_init__ of a root that is nested in `options`
        raise ConfigError(str(error)) from error


def _as_called(prog: str) -> str:
    """`murmuration launch` for `python -m runtime.launch`, where that is what the user typed."""
    if Path(sys.argv[0]).name != "murmuration":
        return prog
    return f"murmuration {prog.rpartition('.')[2].replace('_', '-')}"


def exit_with_error(error: Exception) -> NoReturn:
    """Report what prevents the start as one line on stderr, and leave with exit code 2."""
    line = bounded.shorten(" ".join(str(error).split()), _LONGEST_LINE)
    # A file's keys and values are shown: its escape sequences are not for the terminal.
    plain = "".join(sign if sign.isprintable() else "?" for sign in line)
    print(f"error: {plain}", file=sys.stderr)
    raise SystemExit(2)


# --- sources --------------------------------------------------------------------------------------


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The flag's last value, ahead of the real parsing; a missing one is for tyro to report."""
    value = None
    for word, following in zip(argv, [*argv, "--"][1:], strict=True):
        if word.startswith(f"{flag}="):
            value = word.partition("=")[2]
        elif word == flag and not following.startswith("--"):
            value = following
    return value or None


def _require_values(argv: Sequence[str]) -> None:
    """Refuse an option with an empty value: that is what a shell makes of a variable not set."""
    for word, following in pairwise([*argv, "--"]):
        flag, has_value, value = word.partition("=")
        is_empty = (value if has_value else following) == ""
        if flag.startswith("--") and is_empty and flag.replace("_", "-") not in _MAY_BE_EMPTY:
            raise ConfigError(f"{flag} is empty: give it a value, or leave the option out")


def _preset_and_file(
    env_flag: str | None,
    options_flag: str | None,
    algorithm_flag: str | None,
    file: Path | None,
    population: Population | None,
) -> RunConfig:
    own = {} if file is None else _mapping(_read(file), str(file))
    if own.get("resume"):
        shown = bounded.shorten(str(own["resume"]), 60)
        raise ConfigError(f"{file}: resume belongs on the command line: --resume {shown}")
    if own.get("life"):
        raise ConfigError(f"{file}: life counts how often a run was resumed: leave it out")
    in_file, algorithm = _word_in(own, "env", "name"), _word_in(own, "learner", "algorithm")
    try:
        preset = _preset(env_flag or in_file or "battle")
        raw = _merged(_for_algorithm(preset, algorithm_flag or algorithm), own)
    except ConfigError as error:
        raise (ConfigError(f"{file}: {error}") if in_file and not env_flag else error) from error
    origin = str(file or _preset_path(env_flag or "battle"))
    if population is not None and "num_agents" not in own:
        config = _build(raw, origin).env
        decided = population(replace(config, options=options_flag or config.options))
        raw = raw if decided is None else {**raw, "num_agents": decided}
    return _build(raw, origin)


def _word_in(raw: dict[str, Any], group: str, key: str) -> str:
    values = raw.get(group)
    word = cast("dict[str, Any]", values).get(key) if isinstance(values, dict) else None
    return word if isinstance(word, str) else ""


def _for_algorithm(preset: dict[str, Any], algorithm: str) -> dict[str, Any]:
    """A preset whose evaluations draw actions does not ask for it where an algorithm is asked for
    that learns no probabilities.
    """
    evaluation = cast("dict[str, Any]", preset.get("evaluation") or {})
    if not algorithm or "sampled" not in evaluation:
        return preset
    try:
        acting = describe(algorithm, "").traits.acting
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if acting in ("sample", "guided"):
        return preset
    rest = {key: value for key, value in evaluation.items() if key != "sampled"}
    return {**preset, "evaluation": rest}


def _resumed(folder: Path) -> RunConfig:
    config, is_verified = read_resolved(folder)
    if not is_verified:
        print(
            f"warning: {folder / RESOLVED} has no checksum, an older version wrote it or somebody "
            "has removed it: its values are taken as they are",
            file=sys.stderr,
        )
    return config


def _preset(env_name: str) -> dict[str, Any]:
    try:
        extensions.address(extensions.ENVIRONMENT, env_name)
    except extensions.ExtensionError as error:
        raise ConfigError(str(error)) from error
    path = _preset_path(env_name)
    is_ours = env_name.partition(":")[0] in extensions.own_names(extensions.ENVIRONMENT)
    preset = _mapping(_read(path), str(path)) if is_ours and path.exists() else {}
    return _merged({"env": {"name": env_name}}, preset)


def _preset_path(env_name: str) -> Path:
    """Where the preset of a family is, if it has one: that of pettingzoo:mpe2.simple_spread_v3 is
    pettingzoo.yaml.
    """
    return _PRESETS / f"{env_name.partition(':')[0]}.yaml"


def _read(path: Path) -> str:
    try:
        return bounded.read_text(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8 text") from error


def _mapping(text: str, origin: str) -> dict[str, Any]:
    try:
        raw = bounded.parse_yaml(text)
    except bounded.Unfit as error:
        raise ConfigError(f"{origin}: {error}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{origin}: expected keys and values, got {type(raw).__name__}")
    return cast("dict[str, Any]", raw)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both trees as one; where both have a value, the upper one counts."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(*cast("tuple[Any, Any]", (old, value))) if both else value
    return merged


# --- building and explaining ----------------------------------------------------------------------


def _build(raw: dict[str, Any], origin: str) -> RunConfig:
    for unknown, known in _unknown_keys(RunConfig, raw):
        raise ConfigError(f"{origin}: unknown key {unknown}{_nearest(unknown, known)}")
    hooks = {int: _integer, float: _number, _LAYERS: _layers, _NUMBERS: _numbers}
    try:
        return dacite.from_dict(RunConfig, raw, dacite.Config(strict=True, type_hooks=hooks))
    except dacite.WrongTypeError as error:
        raise ConfigError(f"{origin}: {_wrong_type(error)}") from error
    except (dacite.DaciteError, ValueError) as error:
        raise ConfigError(f"{origin}: {bounded.shorten(str(error), 500)}") from error


def _integer(value: object) -> object:
    if isinstance(value, bool):  # to Python a bool is an int, to whoever wrote the file it is not
        raise dacite.WrongTypeError(int, value)
    return value


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise dacite.WrongTypeError(float, value)
    try:
        return float(value) if isinstance(value, int) else value
    except OverflowError:  # more than 308 digits: outside every range
        return math.inf if cast("int", value) > 0 else -math.inf


def _layers(value: object) -> object:
    if not isinstance(value, list):
        raise dacite.WrongTypeError(_LAYERS, value)
    return tuple(cast("list[object]", value))


def _numbers(value: object) -> object:
    numbers = cast("list[object]", value if isinstance(value, list) else [value])
    if any(type(number) is not int for number in numbers):
        raise dacite.WrongTypeError(_NUMBERS, value)
    return tuple(numbers)


def _unknown_keys(
    schema: type, raw: Mapping[Any, Any], path: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Paths that the schema does not have, each with the paths that stand beside it."""
    hints = get_type_hints(schema)
    for key, value in raw.items():
        if key not in hints:
            shown = bounded.shorten(str(key), 60)
            yield f"{path}{shown}", [f"{path}{name}" for name in hints]
        elif is_dataclass(hints[key]) and isinstance(value, dict):
            yield from _unknown_keys(hints[key], cast("dict[Any, Any]", value), f"{path}{key}.")


def _nearest(unknown: str, siblings: list[str]) -> str:
    close = difflib.get_close_matches(unknown.replace("-", "_"), siblings, n=1)
    if not close:
        name = unknown.rpartition(".")[2]
        close = [path for path in _leaves(RunConfig) if path.rpartition(".")[2] == name]
    return f", did you mean {close[0]}?" if close else f" (known: {', '.join(siblings)})"


def _leaves(schema: type, path: str = "") -> Iterator[str]:
    hints = get_type_hints(schema)
    for entry in fields(schema):
        if is_dataclass(hints[entry.name]):
            yield from _leaves(hints[entry.name], f"{path}{entry.name}.")
        else:
            yield f"{path}{entry.name}"


def _wrong_type(error: dacite.WrongTypeError) -> str:
    path, wanted, value = error.field_path, cast("Any", error).field_type, error.value
    got = f"got {brief(value)}"
    if is_dataclass(wanted):
        hint = f" (for the number of agents write num_agents: {value})" if path == "agents" else ""
        return f"{path} must be a group of keys, {got}{hint}"
    if get_origin(wanted) is Literal:
        return f"{path} must be one of {', '.join(map(str, get_args(wanted)))}, {got}"
    if wanted == _LAYERS:
        return f"{path} must be a list of {', '.join(get_args(SparseLayer))}, {got}"
    if wanted == _NUMBERS:
        return f"{path} must be a list of integers, {got}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return f"{path} must be {names[wanted]}, {got}{_yaml_hint(wanted, value)}"


def _yaml_hint(wanted: type, value: object) -> str:
    """YAML 1.1 takes 3e-4 for text: it wants a dot in the mantissa and a sign in the exponent."""
    if not isinstance(value, str) or len(value) > 40:
        return ""
    exponent = re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", value)
    if exponent is None or wanted not in (int, float):
        return ""
    if wanted is int:
        number = float(str(value))
        return f" (write {int(number)})" if number.is_integer() else ""
    mantissa, fraction, sign, digits = exponent.groups()
    return f" (YAML reads this as text: write {mantissa}{fraction or '.0'}e{sign or '+'}{digits})"


def _one_line(box: str) -> str:
    """The message within the box that tyro draws around an error."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│ ") for line in plain.splitlines() if line.startswith("│")]
    if not lines:
        return " ".join(plain.split())
    rules = [number for number, line in enumerate(lines) if line.startswith("───")]
    message = " ".join(lines[: rules[0] if rules else None])
    for pattern, text in (
        (r"^Error parsing (--\S+): ", r"\1: "),
        (r"^Error parsing \S+: ", ""),
        (r"Exceeds the limit .*", "more digits than a number may have"),
        (r"invalid literal for int\(\) with base 10:", "expected an integer, got"),
        (r"could not convert string to float:", "expected a number, got"),
        (r"^Missing value for argument '(\S+)'\. .*", r"\1 needs a value"),
        (
            r"^invalid choice (.*) for argument '(\S+)'\. Expected (.*)\.",
            r"\2: expected \3, got \1",
        ),
    ):
        message = re.sub(pattern, text, message)
    if message.startswith("Unrecognized options: "):
        words = message.partition(": ")[2].split(", ")
        unknown = [word for word in words if word.startswith("-")] or words
        nearest = next((f", did you mean {ln.split()[0]}?" for ln in lines if ln[:2] == "--"), "")
        return f"unknown option {', '.join(unknown)}{nearest}"
    return message
