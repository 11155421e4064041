"""The shell of an agent in lock-step, without a process of its own."""

from pathlib import Path

import numpy as np
import zmq

from agents.events import ToWorld
from agents.parameters import ParameterStore
from agents.process.lockstep import AgentProcess, AgentSetup
from runtime.net import wire
from runtime.net.traffic import Traffic
from runtime.net.transport import CONTROL, STEP, Hub, agent_routing_id
from tests.agents_helpers import make_flat, make_rules
from tests.process.runs import wait_for

ACTION = wire.Action(5, 1, np.zeros(1, np.uint8), np.zeros(1, np.uint16), np.zeros(1, np.uint8))


def test_an_answer_to_a_world_that_has_ended_is_no_dropped_packet(tmp_path: Path) -> None:
    """A run ends while some copies are still at play; a new connection is asked again."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    node, world = (
        Hub(context, f"ipc://{tmp_path}/{name}", Traffic(), limits)
        for name, limits in (("node", CONTROL), ("world", STEP))
    )
    setup = AgentSetup(
        identity=0,
        incarnation=0,
        seed=0,
        rules=make_rules(num_agents=2),
        parameters=ParameterStore(make_flat(), 1),
        node_endpoint=node.endpoint,
        world_endpoint=world.endpoint,
        learner_endpoint="",
        inbox_endpoint=f"ipc://{tmp_path}/inbox",
        peer_timeout_s=1.0,
        is_tcp=False,
        nice=0,
        logs=tmp_path,
    )
    agent = AgentProcess(setup, context)
    tell_world = agent._tell_world  # pyright: ignore[reportPrivateUsage]
    traffic = agent._traffic  # pyright: ignore[reportPrivateUsage]
    channel = agent._world  # pyright: ignore[reportPrivateUsage]
    wait_for("the world", lambda: channel.is_writable, 10.0)
    tell_world(ToWorld(ACTION))
    arrived = wait_for("the answer", lambda: list(world.drain(wire.Action)), 10.0)
    assert [name for name, _ in arrived] == [agent_routing_id(0)]
    world.close()
    wait_for("the end of the world", lambda: not channel.is_writable, 10.0)
    tell_world(ToWorld(ACTION))
    assert traffic.dropped_total == 0
    agent.close()
    node.close()
    context.term()
