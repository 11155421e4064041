"""Runs in one process whose rollouts have a fixed length, and the pieces of episodes they leave."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agents.carry import carry_dim
from agents.policy import PolicySpec, initialise, views
from configs.arrays import FloatArray
from configs.columns import LOG_PROB, PIECES, Q_VALUES, Column, by_world
from configs.schema import GateTiming, NetworkConfig
from envs.base import Env
from envs.copies import Copies
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner
from runtime.run.serial import SerialRun
from tests import agents_helpers, world_helpers

COLUMNS = (LOG_PROB, Q_VALUES, *PIECES)


def make_piece_run(
    envs: Sequence[Env],
    steps: int,
    rollouts: int,
    *,
    comm: str = "sops",
    comm_options: str = "",
    timing: GateTiming = "causal",
    relay: bool = False,
    network: dict[str, Any] | None = None,
    flat: FloatArray | None = None,
    more: tuple[Column, ...] = (),
    **of_world: Any,
) -> SerialRun:
    """Copies whose agents draw their actions, for so many rollouts of so many steps.

    Args:
        network: differences from a small one.
        more: columns that the world records as well.
    """
    task = envs[0].spec
    sizes: dict[str, Any] = {"hidden": 8, "message": 8, "attention": 3, "beacon": 6, "scorer": 9}
    spec = PolicySpec.of(
        NetworkConfig(**(sizes | (network or {}))),
        task.observation_dim,
        task.num_actions,
        comm=comm,
        comm_options=comm_options,
    )
    if flat is None:
        flat = initialise(spec, np.random.default_rng(0)) * np.float32(3.0)
        tensors = views(spec, flat)
        if "scorer_out.bias" in tensors:  # some edges open and some stay shut
            tensors["scorer_out.bias"][...] = -1.5
    rules = agents_helpers.make_rules(
        num_agents=task.num_agents, copies=len(envs), spec=spec, comm=comm, timing=timing,
        relay=relay,
    )  # fmt: skip
    rules = replace(
        rules,
        comm_options=comm_options,
        columns=COLUMNS,
        acting="sample",
        steady=True,
        in_pieces=True,
        comes_back=task.comes_back,
    )
    train_steps = steps * rollouts * len(envs)
    world = world_helpers.make_rules(
        timing=timing, relay=relay, train_steps=train_steps, ships="training"
    )
    world = replace(
        world,
        graph=rules.graph,
        moves=rules.moves,
        in_rounds=True,
        rollout_steps=steps,
        columns=tuple(column.name for column in by_world((*COLUMNS, *more))),
        **of_world,
    )
    run = SerialRun(Copies(envs, 0), rules, flat, world)
    run.world.learner.progress(updates_owed=0.0, episodes_taken=0)
    return run


def dimensions_of(run: SerialRun) -> Dimensions:
    rules = run.rules
    remembered = carry_dim(rules.spec, rules.graph.num_edges)
    return Dimensions.of(run.copies.spec, rules.columns, remembered)


def played_pieces(run: SerialRun) -> list[Episode]:
    """All pieces of a run, joined, with a learner that takes in everything and learns nothing."""
    while run.is_playing:
        if not run.world.may_tick:
            run.world.learner.progress(updates_owed=0.0, episodes_taken=len(run.records))
        run.tick()
    run.farewell()
    return joined(run)


def joined(run: SerialRun) -> list[Episode]:
    joiner = EpisodeJoiner(dimensions_of(run))
    found = [joiner.add(packet) for packet in (*run.trajectories, *run.records)]
    assert not joiner.dropped_packets, joiner.dropped_packets
    assert not joiner.dropped_episodes, joiner.dropped_episodes
    return [episode for episode in found if episode is not None]
