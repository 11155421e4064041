"""Replay recorded observations to agents, and count how many act as recorded.

    python -m runtime.evaluate --policy P --env relay --agents 16 --record recording …
    python docs/examples/replay_body.py --body 'ipc://bundle/host-b/body-{agent}' --local 6-11 \
        --rate-hz 20 --start-at 1767225600 recording/episode-*.npz

Base dependencies only. An agent that hears the same messages does the same; one whose neighbours
play something else, or are not there, differs where messages matter.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from runtime.bodies import Bodies, Pace, parse_agents
from runtime.net.errors import BodyError


def main() -> int:
    options = parse()
    try:
        with Bodies(options.body, parse_agents(options.local), options.timeout_s) as bodies:
            print(json.dumps(replay(bodies, options)))
    except (BodyError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay recorded observations to agents.")
    add = parser.add_argument
    add("--body", required=True, help="endpoint, with {agent} or {port} (8000 + agent) in it")
    add("--local", required=True, help="agents of this host: 0-5 or 0,2,7")
    add("--rate-hz", type=float, default=0.0, help="steps a second; 0: as the agents tick")
    add("--start-at", type=float, default=0.0, help="unix time, the same on all hosts; 0: now")
    add("--timeout-s", type=float, default=10.0, help="patience with the agents at the beginning")
    add("recordings", nargs="+", type=Path, help=".npz files of runtime.evaluate --record")
    return parser.parse_args()


def replay(bodies: Bodies, options: argparse.Namespace) -> dict[str, float]:
    """Every recorded step at its moment; without any rate as fast as the agents act."""
    rate_hz = bodies.rate_hz or options.rate_hz
    pace = None
    if rate_hz:
        start_at = options.start_at or time.time() + 0.5
        pace = Pace(rate_hz, start_at, agents_tick=bodies.rate_hz > 0.0)
    number = compared = agreed = 0
    for path in options.recordings:
        with np.load(path) as recording:
            observations_TND = recording["observations"]
            actions_TN, alive_TN = recording["actions"], recording["alive"]
        for t, actions_N in enumerate(actions_TN):
            living = [agent for agent in bodies.agents if alive_TN[t, agent]]
            seen = {agent: observations_TND[t, agent] for agent in living}
            patience_s = pace.wait(number) if pace else 1.0
            step = pace.number(number) if pace else number
            actions = bodies.act(seen, step=step, first=t == 0, patience_s=patience_s)
            compared += len(living)
            agreed += sum(action == actions_N[agent] for agent, action in actions.items())
            number += 1
    return {
        "episodes": len(options.recordings),
        "steps": number,
        "actions": compared,
        "actions_agreed": int(agreed),
        "share_agreed": float(agreed) / max(compared, 1),
        "actions_missing": bodies.missing,
    }


if __name__ == "__main__":
    sys.exit(main())
