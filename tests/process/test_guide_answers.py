"""A guide's answer is followed whenever it comes, also while the world does other things."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import zmq

from configs.load import preset_for
from runtime.net import wire
from runtime.net.traffic import Traffic
from runtime.net.transport import (
    CONTROL,
    STEP,
    TRAJECTORIES,
    WORLD,
    Channel,
    Hub,
    agent_routing_id,
)
from runtime.terminal.processes import ONE_THREAD, spawn
from runtime.world import process as world_host
from runtime.world.commands import WorldCommand
from runtime.world.lockstep import World
from runtime.world.process import STATUS_PERIOD_S, WorldSetup
from tests.process.runs import run_config, wait_for

pytestmark = pytest.mark.process

AGENTS = 2
TICKS = 5
PATIENCE_S = 20.0
"""Less than the world waits before it asks again."""


class BusyWorld(World):
    """Takes so long for an action that a status is due afterwards."""

    def action(self, agent: int, packet: wire.Action) -> list[WorldCommand]:
        time.sleep(2 * STATUS_PERIOD_S)
        return super().action(agent, packet)


def busy_world(setup: WorldSetup) -> None:
    """Entry point of the process."""
    world_host.main(setup, BusyWorld)


def test_an_answer_that_comes_while_the_world_looks_after_its_episodes_is_not_overlooked(
    tmp_path: Path,
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    launcher = Hub(context, f"ipc://{tmp_path}/launcher", Traffic(), CONTROL)
    learner = Hub(context, f"ipc://{tmp_path}/learner", Traffic(), TRAJECTORIES)
    learner_config = dataclasses.replace(preset_for("coord-sum").learner, algorithm="sable")
    config = run_config("coord-sum", AGENTS, copies=1, comm="none", learner=learner_config)
    runtime = dataclasses.replace(config.runtime, step_timeout_s=10 * PATIENCE_S)
    setup = WorldSetup(
        config=dataclasses.replace(config, runtime=runtime),
        ships="none",
        train_steps=1000,
        env_steps=0,
        episodes=0,
        launcher_endpoint=launcher.endpoint,
        learner_endpoint=learner.endpoint,
        bind_endpoint=f"ipc://{tmp_path}/world",
        logs=tmp_path,
    )
    process = spawn(busy_world, setup, "murmuration world", ONE_THREAD)
    agents: list[Channel] = []
    asked: list[int] = []
    acted: list[int] = []
    one = np.ones(1, np.uint8)

    def play(channels: list[Channel]) -> bool:
        """Everybody answers, the guide a moment after the agents."""
        for channel in channels:
            for told in channel.drain(wire.Observation):
                assert isinstance(told, wire.Observation)
                channel.send(wire.Action(told.tick, 1, 0 * one, np.zeros(1, np.uint16), 0 * one))
                acted.append(told.tick)
        if acted.count(len(asked) + 1) < AGENTS:
            return False
        time.sleep(0.1)
        for peer, question in learner.drain(wire.GuideQuestion):
            assert isinstance(question, wire.GuideQuestion)
            asked.append(question.tick)
            shape = question.alive.shape
            zeros = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
            learner.send(peer, wire.GuideAnswer(question.tick, *zeros))
        return len(asked) >= TICKS

    def hello() -> list[wire.Packet]:
        return [packet for _, packet in launcher.drain(wire.Hello)]

    try:
        wait_for("the world", hello, PATIENCE_S)
        for agent in range(AGENTS):
            name = agent_routing_id(agent)
            agents.append(Channel(context, setup.bind_endpoint, name, Traffic(), STEP))
            launcher.send(WORLD.encode(), wire.AgentState(agent, 0, 1))
        wait_for("connections", lambda: all(end.is_writable for end in agents), PATIENCE_S)
        launcher.send(WORLD.encode(), wire.LearnerState(0.0, 0, 0, 1))
        launcher.send(WORLD.encode(), wire.Instruction("start"))
        wait_for(f"{TICKS} ticks", lambda: play(agents), PATIENCE_S)
        assert asked == list(range(1, TICKS + 1)), "asked once a tick, and never again"
        launcher.send(WORLD.encode(), wire.Stop("end of the test"))
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        for end in (*agents, learner, launcher):
            end.close()
        context.term()
