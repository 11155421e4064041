"""Bodies of agents from a PettingZoo environment (needs pettingzoo; Battle needs magent2 too).

    python docs/examples/pettingzoo_body.py --body 'ipc://bundle/host-a/body-{agent}' \
        --env relay --agents 16 --local 0-5 --seed 7 --episodes 100 --rate-hz 20

Any ParallelEnv whose agents are numbered will do in place of ours. Where observations do not depend
on actions (relay), every host can play its own copy with the same seed and start; elsewhere one
host must hold all agents.
"""

import argparse
import json
import sys
import time

from envs.battle.battle import Battle
from envs.battle.map import deploy
from envs.battle.opponents import make_opponent
from envs.parallel import Parallel, agent_index, agent_name
from envs.relay import Relay
from runtime.bodies import Bodies, Pace, parse_agents
from runtime.net.errors import BodyError


def main() -> int:
    options = parse()
    try:
        env = make_env(options)
        local = parse_agents(options.local)
        if options.env != "relay" and len(local) < options.agents:
            raise ValueError(
                f"what is seen in {options.env} depends on everybody's actions: one host must "
                f"hold all {options.agents} agents"
            )
        with Bodies(options.body, local, options.timeout_s) as bodies:
            print(json.dumps(play(env, bodies, options)))
    except (BodyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bodies of agents from a PettingZoo environment.")
    add = parser.add_argument
    add("--body", required=True, help="endpoint, with {agent} or {port} (8000 + agent) in it")
    add("--env", choices=("relay", "battle"), default="relay")
    add("--opponent", default="random", help="Battle's other team: random, scripted or a file")
    add("--agents", type=int, required=True, help="agents of the whole deployment")
    add("--local", required=True, help="agents of this host: 0-5 or 0,2,7")
    add("--seed", type=int, default=0, help="of the episodes, the same on all hosts")
    add("--episodes", type=int, default=100)
    add("--rate-hz", type=float, default=0.0, help="steps a second; 0: as the agents tick")
    add("--start-at", type=float, default=0.0, help="unix time, the same on all hosts; 0: now")
    add("--timeout-s", type=float, default=10.0, help="patience with the agents at the beginning")
    return parser.parse_args()


def make_env(options: argparse.Namespace) -> Parallel:
    if options.env == "relay":
        return Parallel(Relay(options.agents))
    return Parallel(Battle(deploy(options.agents)), make_opponent(options.opponent))


def play(env: Parallel, bodies: Bodies, options: argparse.Namespace) -> dict[str, float]:
    """Every step at its moment; without any rate as fast as the agents act."""
    space = env.observation_space(env.possible_agents[0])
    assert space.shape is not None
    bodies.require(space.shape[0], env.num_actions)
    rate_hz = bodies.rate_hz or options.rate_hz
    pace = None
    if rate_hz:
        start_at = options.start_at or time.time() + 0.5
        pace = Pace(rate_hz, start_at, agents_tick=bodies.rate_hz > 0.0)
    total, number, won = 0.0, 0, 0
    for episode in range(options.episodes):
        observations, _ = env.reset(options.seed if episode == 0 else None)
        first = True
        while env.agents:
            seen = {
                agent: observations[agent_name(agent)]
                for agent in bodies.agents
                if agent_name(agent) in observations
            }
            patience_s = pace.wait(number) if pace else 1.0
            step = pace.number(number) if pace else number
            actions = bodies.act(seen, step=step, first=first, patience_s=patience_s)
            # Who says nothing, or is another host's, does nothing.
            played = {name: actions.get(agent_index(name), env.noop_action) for name in env.agents}
            observations, rewards, _, _, infos = env.step(played)
            total += sum(rewards.get(agent_name(agent), 0.0) for agent in bodies.agents)
            won += not env.agents and any(info["won"] for info in infos.values())
            # The dead have no observation to send any more.
            observations = {name: observations[name] for name in env.agents}
            first = False
            number += 1
    env.close()
    count = options.episodes * len(bodies.agents)
    return {
        "episodes": options.episodes,
        "steps": number,
        "agents": len(bodies.agents),
        "return_sum": total,
        "return_count": count,
        "return_mean": total / count,
        "won": won,
        "actions_missing": bodies.missing,
    }


if __name__ == "__main__":
    sys.exit(main())
