"""Bodies of one host's agents in the relay task: base dependencies only.

    python docs/examples/relay_body.py --body 'ipc://bundle/host-a/body-{agent}' \
        --agents 16 --local 0-5 --seed 7 --episodes 100 --rate-hz 20 --start-at 1767225600

Run it on every host with that host's agents and the same other options: observations of relay do
not depend on actions, so that every host can keep its own copy of the task. It prints sum and count
of its agents' returns, which add up over hosts.
"""

import argparse
import json
import sys
import time

import numpy as np

from envs.copies import Copies
from envs.relay import Relay
from runtime.bodies import Bodies, Pace, parse_agents
from runtime.net.errors import BodyError


def main() -> int:
    options = parse()
    try:
        with Bodies(options.body, parse_agents(options.local), options.timeout_s) as bodies:
            print(json.dumps(play(bodies, options)))
    except (BodyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Bodies of one host's agents in the relay task.")
    add = parser.add_argument
    add("--body", required=True, help="endpoint, with {agent} or {port} (8000 + agent) in it")
    add("--agents", type=int, required=True, help="agents of the whole deployment")
    add("--local", required=True, help="agents of this host: 0-5 or 0,2,7")
    add("--seed", type=int, default=0, help="of the episodes, the same on all hosts")
    add("--episodes", type=int, default=100)
    add("--rate-hz", type=float, default=0.0, help="steps a second; 0: as the agents tick")
    add("--start-at", type=float, default=0.0, help="unix time, the same on all hosts; 0: now")
    add("--timeout-s", type=float, default=10.0, help="patience with the agents at the beginning")
    return parser.parse_args()


def play(bodies: Bodies, options: argparse.Namespace) -> dict[str, float]:
    """Every step at its moment; without any rate as fast as the agents act."""
    copies = Copies([Relay(options.agents)], options.seed)
    spec = copies.spec
    bodies.require(spec.observation_dim, spec.num_actions)
    rate_hz = bodies.rate_hz or options.rate_hz
    if options.rate_hz not in (0.0, rate_hz):
        raise ValueError(f"the agents tick at {rate_hz:g} Hz, not at {options.rate_hz:g}")
    pace = None
    if rate_hz:
        start_at = options.start_at or time.time() + 0.5
        pace = Pace(rate_hz, start_at, agents_tick=bodies.rate_hz > 0.0)
    local = list(bodies.agents)
    total, number, episode, first = 0.0, 0, 0, True
    (now,) = copies.reset()
    while episode < options.episodes:
        patience_s = pace.wait(number) if pace else 1.0
        step = pace.number(number) if pace else number
        seen = {agent: now.observations_ND[agent] for agent in local}
        actions = bodies.act(seen, step=step, first=first, patience_s=patience_s)
        # No colour has the number A: who says nothing is never right.
        actions_N = np.full(spec.num_agents, spec.num_actions)
        for agent, action in actions.items():
            actions_N[agent] = action
        ((transition, now),) = copies.step(actions_N[None])
        total += float(transition.rewards_N[local].sum())
        first = transition.terminated or transition.truncated
        episode += first
        number += 1
    return {
        "episodes": episode,
        "steps": number,
        "agents": len(local),
        "return_sum": total,
        "return_count": episode * len(local),
        "return_mean": total / (episode * len(local)),
        "actions_missing": bodies.missing,
    }


if __name__ == "__main__":
    sys.exit(main())
