"""What an option leaves without effect is said, and nothing else is."""

from collections import Counter

import pytest

from configs.effects import RULES, effective, values, without_effect
from configs.load import load_run_config
from configs.schema import RunConfig


def said(*arguments: str) -> list[str]:
    lines: list[str] = []
    load_run_config(arguments, remark=lines.append)
    return lines


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("", []),
        ("--env relay", []),
        ("--env battle --policy shipped", []),
        # Battle's preset has a price; nobody has asked for one.
        ("--comm none", []),
        ("--gate.mode open", []),
        (
            "--comm expocomm-static --gate.budget 2 --gate.price 0.5",
            [
                "gate.budget, gate.price have no effect: comm expocomm-static opens its edges by a "
                "rule of its own"
            ],
        ),
        (
            "--comm none --gate.price 0.5 --gate.budget 2",
            ["gate.budget, gate.price have no effect: agents do not speak (comm none)"],
        ),
        (
            "--env relay --learner.teacher idqn --opponent scripted",
            [
                "env.opponent has no effect: relay has no second team",
                "learner.teacher has no effect: nobody has advice for relay",
            ],
        ),
        (
            "--env relay --gate.price-steps 7",
            ["gate.price_steps has no effect: an edge is free (gate.price 0)"],
        ),
        (
            "--gate.mode closed --gate.price 0.3 --gate.budget 1",
            [
                "gate.price has no effect: nothing is learned about edges (gate.mode is not "
                "learned)",
                "gate.budget has no effect: no edge is open (gate.mode closed)",
            ],
        ),
        ("--gate.price 0.3 --gate.budget 1", []),
        ("--comm full --network.message 8", []),
        (
            "--comm mfq --network.message 8",
            ["network.message has no effect: messages of comm mfq have their own size"],
        ),
        (
            "--gate.temperature-schedule constant --gate.temperature-end 0.1",
            [
                "gate.temperature_end has no effect: the temperature stays as it is "
                "(gate.temperature_schedule constant)"
            ],
        ),
        (
            "--learner.mixing-embed 8 --learner.res-beta 2",
            [
                "learner.mixing_embed, learner.res_beta have no effect: learner.algorithm iql does "
                "not read them",
            ],
        ),
        ("--algorithm res --learner.mixing-embed 8 --learner.res-beta 2", []),
        (
            "--metrics-port 0 --metrics-per-edge --runtime.host-timeout-s 9",
            [
                "runtime.metrics_per_edge has no effect: there is no exporter (runtime.metrics_port"
                " 0)",
                "runtime.host_timeout_s has no effect: all agents are on this machine "
                "(runtime.hosts is empty)",
            ],
        ),
        (
            "--rebalance",
            [
                "runtime.rebalance has no effect: all agents are on this machine "
                "(runtime.hosts is empty)",
            ],
        ),
        (
            "--hosts h.yaml --runtime.rebalance-after-s 9",
            [
                "runtime.rebalance_after_s has no effect: agents of a host that leaves stay its "
                "own (runtime.rebalance is off)",
            ],
        ),
        ("--hosts h.yaml --rebalance --runtime.rebalance-after-s 9", []),
        (
            "--placer ray --hosts-count 2 --bundles keys --ray-cpus 2",
            [
                "runtime.bundles has no effect: Ray's hosts get keys of their own for each run "
                "(runtime.placer ray)",
            ],
        ),
    ],
)
def test_options_without_effect_are_named_with_the_reason(arguments: str, lines: list[str]) -> None:
    assert said(*arguments.split()) == lines


def test_no_option_is_spoken_of_twice() -> None:
    asked = "--env relay --comm none --gate.mode closed --gate.price-steps 3 --gate.budget 2"
    words = Counter(
        name for line in said(*asked.split()) for name in line.split(" has ")[0].split()
    )
    assert words.most_common(1)[0][1] == 1


def test_rules_speak_of_options_that_exist() -> None:
    paths = [path for path, _ in values(RunConfig())]
    for rule in RULES:
        for option in rule.options:
            alone = type(rule)(rule.because, rule.applies, (option,))
            assert any(alone.is_about(path) for path in paths), option


def test_players_of_battle_are_left_out_of_relay() -> None:
    asked = "--learner.teacher idqn --agents.adviser scripted"
    battle = load_run_config(asked.split())
    assert effective(battle) == battle
    relay = effective(load_run_config(["--env", "relay", *asked.split()]))
    assert (relay.learner.teacher, relay.agents.adviser) == ("", "")


def test_a_run_equal_to_the_usual_one_has_nothing_to_say() -> None:
    assert without_effect(RunConfig(comm="none"), RunConfig(comm="none")) == []
