"""Options that another option leaves without effect in a run.

    configuration, what it would be without options -> lines such as
    "gate.price has no effect: agents do not speak (comm none)"

Only what somebody has asked for is worth a line: a preset sets a price for all runs of Battle, and
a run without messages has no use for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from configs import extensions
from configs.algorithms.base import OnPolicy
from configs.algorithms.described import special_options, traits_of
from configs.options import read
from configs.schema import RunConfig


@dataclass(frozen=True, slots=True)
class Rule:
    """Why some options do nothing, and which."""

    because: str
    """{env} and {comm} stand for the names of environment and scheme."""
    applies: Callable[[RunConfig], bool]
    options: tuple[str, ...]
    """Paths; one that ends with a dot or an underscore stands for all that begin with it."""

    def is_about(self, path: str) -> bool:
        return any(
            path.startswith(option) if option[-1] in "._" else path == option
            for option in self.options
        )


def of_env(config: RunConfig, trait: str) -> bool:
    """What the environment's family says of itself (envs/family.py); a plain callable says no."""
    family = extensions.load(extensions.ENVIRONMENT, config.env.name)
    return bool(getattr(family, trait, False))


def learns_no_gate(config: RunConfig) -> bool:
    """Whether the scheme's edges open by a rule of its own (agents/comm/base.py)."""
    scheme = extensions.load(extensions.SCHEME, config.comm)
    gate_mode = getattr(scheme, "gate_mode", None)
    return config.comm != "none" and gate_mode is not None and gate_mode("learned") != "learned"


def _says_no_beacons(config: RunConfig) -> bool:
    scheme: Any = extensions.load(extensions.SCHEME, config.comm)
    reads_beacons = getattr(scheme, "reads_beacons", None)
    if not learns_no_gate(config) or reads_beacons is None:
        return False
    options = read(scheme.Options, config.comm_options, "--comm.options")
    return not reads_beacons(scheme.gate_mode(config.gate.mode), options)


def _never_moves(config: RunConfig) -> bool:
    """Whether who may be spoken to stays the same."""
    scheme: Any = extensions.load(extensions.SCHEME, config.comm)
    moves = getattr(scheme, "moves", None)
    if moves is None:
        return False
    return not moves(read(scheme.Options, config.comm_options, "--comm.options"))


def _fixes_messages(config: RunConfig) -> bool:
    """Whether messages have a size of the scheme's own."""
    scheme: Any = extensions.load(extensions.SCHEME, config.comm)
    message_size = getattr(scheme, "message_size", None)
    if message_size is None:
        return False
    options = read(scheme.Options, config.comm_options, "--comm.options")
    other = replace(config.network, message=config.network.message + 1)
    return bool(message_size(other, options) == message_size(config.network, options))


def _learns_from_itself(config: RunConfig) -> bool:
    return isinstance(traits_of(config.learner).experience, OnPolicy)


_LEARNED_GATE = (
    "gate.mode",
    "gate.budget",
    "gate.estimator",
    "gate.temperature_",
    "gate.noise_share",
    "gate.price",
    "gate.price_",
)

RULES: tuple[Rule, ...] = (
    Rule(
        "agents do not speak (comm none)",
        lambda c: c.comm == "none",
        (
            "gate.",
            "agents.dead",
            "agents.peer_timeout_s",
            "network.message_dtype",
            "network.beacon_dtype",
            "network.beacon_delta",
            "network.beacon_period",
        ),
    ),
    Rule(
        "comm {comm} opens its edges by a rule of its own",
        _says_no_beacons,
        (*_LEARNED_GATE, "network.beacon_dtype", "network.beacon_delta", "network.beacon_period"),
    ),
    Rule("comm {comm} opens its edges by a rule of its own", learns_no_gate, _LEARNED_GATE),
    Rule("agents with comm {comm} have fixed edges", _never_moves, ("agents.most_edges",)),
    Rule("messages of comm {comm} have their own size", _fixes_messages, ("network.message",)),
    Rule(
        "nothing is learned about edges (gate.mode is not learned)",
        lambda c: c.gate.mode != "learned",
        (
            "gate.estimator",
            "gate.temperature_",
            "gate.noise_share",
            "gate.price",
            "gate.price_",
        ),
    ),
    Rule(
        "no smooth gate stands in for the hard one (gate.estimator is not straight-through)",
        lambda c: c.gate.estimator != "straight-through",
        ("gate.temperature_",),
    ),
    Rule(
        "the temperature stays as it is (gate.temperature_schedule constant)",
        lambda c: c.gate.temperature_schedule == "constant",
        ("gate.temperature_end", "gate.temperature_steps"),
    ),
    Rule("no edge is open (gate.mode closed)", lambda c: c.gate.mode == "closed", ("gate.budget",)),
    Rule("an edge is free (gate.price 0)", lambda c: c.gate.price == 0.0, ("gate.price_",)),
    Rule(
        "{env} has no second team",
        lambda c: not of_env(c, "is_contested"),
        ("env.opponent", "env.evaluation_opponent"),
    ),
    Rule(
        "nobody has advice for {env}",
        lambda c: not of_env(c, "has_advisers"),
        ("agents.adviser", "agents.advice", "learner.teacher", "learner.teacher_"),
    ),
    Rule(
        "{env} has a time limit of its own",
        lambda c: not of_env(c, "takes_max_cycles"),
        ("env.max_cycles",),
    ),
    Rule(
        "the algorithm learns from what its newest policy has played, and from that alone",
        _learns_from_itself,
        (
            "agents.adviser",
            "agents.advice",
            "agents.epsilon_",
            "learner.average_rate",
            "learner.batch_size",
            "learner.burn_in",
            "learner.learning_starts",
            "learner.max_backlog",
            "learner.online_",
            "learner.replay_",
            "learner.teacher_margin",
            "learner.updates_per_episode",
            "learner.window",
        ),
    ),
    Rule(
        "nothing was trained beforehand (no pretrained)",
        lambda c: not c.pretrained,
        ("learner.pretrained",),
    ),
    Rule("nobody is asked (agents.adviser)", lambda c: not c.agents.adviser, ("agents.advice",)),
    Rule("there is no teacher", lambda c: not c.learner.teacher, ("learner.teacher_",)),
    Rule(
        "networks are dense (sparse.method none)", lambda c: c.sparse.method == "none", ("sparse.",)
    ),
    Rule(
        "links stay (sparse.method static)",
        lambda c: c.sparse.method == "static",
        ("sparse.fraction", "sparse.period", "sparse.end"),
    ),
    Rule(
        "weights are masked one by one (sparse.pattern unstructured)",
        lambda c: c.sparse.pattern == "unstructured",
        ("sparse.group",),
    ),
    Rule(
        "batches come from the whole replay (learner.online_episodes 0)",
        lambda c: c.learner.online_episodes == 0,
        ("learner.online_share",),
    ),
    Rule(
        "old episodes are not looked at (learner.replay_distance 0)",
        lambda c: c.learner.replay_distance == 0.0,
        ("learner.replay_check_period",),
    ),
    Rule(
        "episodes are unrolled whole (learner.window 0)",
        lambda c: c.learner.window == 0,
        ("learner.burn_in",),
    ),
    Rule(
        "targets look one step ahead (learner.td_lambda 0, learner.n_step 1)",
        lambda c: c.learner.td_lambda == 0.0 and c.learner.n_step == 1,
        ("learner.td_lambda_start",),
    ),
    Rule(
        "targets take the best action (learner.operator max)",
        lambda c: c.learner.operator == "max",
        ("learner.mellowmax_",),
    ),
    Rule(
        "no action is chosen (learner.operator mellowmax)",
        lambda c: c.learner.operator == "mellowmax",
        ("learner.double_q",),
    ),
    Rule(
        "the learner has no such loss (learner.aux none)",
        lambda c: c.learner.aux == "none",
        ("learner.aux_",),
    ),
    Rule(
        "only learner.aux contrast has negatives",
        lambda c: c.learner.aux == "predict",
        ("learner.aux_negatives", "learner.aux_temperature"),
    ),
    Rule(
        "nothing is evaluated (evaluation.episodes 0)",
        lambda c: c.evaluation.episodes == 0,
        ("evaluation.interval_steps", "evaluation.stop_at", "env.evaluation_opponent"),
    ),
    Rule(
        "there is no exporter (runtime.metrics_port 0)",
        lambda c: c.runtime.metrics_port == 0,
        ("runtime.metrics_address", "runtime.metrics_per_edge", "runtime.metrics_linger_s"),
    ),
    Rule(
        "all agents are on this machine (runtime.hosts is empty)",
        lambda c: not c.runtime.spreads,
        (
            *("runtime.host_timeout_s", "runtime.head_timeout_s", "runtime.bundles"),
            *("runtime.rebalance", "runtime.rebalance_after_s"),
        ),
    ),
    Rule(
        "agents of a host that leaves stay its own (runtime.rebalance is off)",
        lambda c: not c.runtime.rebalance,
        ("runtime.rebalance_after_s",),
    ),
    Rule(
        "Ray places no host (runtime.placer hosts)",
        lambda c: c.runtime.placer != "ray",
        ("runtime.ray_",),
    ),
    Rule(
        "Ray's hosts get keys of their own for each run (runtime.placer ray)",
        lambda c: c.runtime.placer == "ray",
        ("runtime.bundles",),
    ),
)


def without_effect(config: RunConfig, usual: RunConfig) -> list[str]:
    """A line for each reason why options do nothing in this run.

    Args:
        usual: the run if nobody had asked for anything; what equals it is not spoken of.
    """
    before = dict(values(usual))
    asked = [path for path, value in values(config) if value != before[path]]
    lines: list[str] = []
    for rule in (*RULES, _unread(config)):
        if not rule.applies(config):
            continue
        idle = [path for path in asked if rule.is_about(path)]
        asked = [path for path in asked if path not in idle]
        if idle:
            have = "has" if len(idle) == 1 else "have"
            because = rule.because.replace("{env}", config.env.name).replace("{comm}", config.comm)
            lines.append(f"{', '.join(idle)} {have} no effect: {because}")
    return lines


def _unread(config: RunConfig) -> Rule:
    """Options of other algorithms."""
    unread = special_options() - set(traits_of(config.learner).reads)
    return Rule(
        f"learner.algorithm {config.learner.algorithm} does not read them",
        lambda _: True,
        tuple(f"learner.{name}" for name in unread),
    )


def effective(config: RunConfig) -> RunConfig:
    """The run without advisers and teachers that its environment does not have."""
    if of_env(config, "has_advisers"):
        return config
    return replace(
        config,
        agents=replace(config.agents, adviser=""),
        learner=replace(config.learner, teacher=""),
    )


def values(tree: Any, group: str = "") -> Iterator[tuple[str, Any]]:
    """All values of a configuration by their paths."""
    for entry in fields(tree):
        value = getattr(tree, entry.name)
        if is_dataclass(value):
            yield from values(value, f"{group}{entry.name}.")
        else:
            yield f"{group}{entry.name}", value
