"""Small episodes for the tests of what is seen."""

from functools import cache

from agents.policy import PolicyFile
from configs.schema import RunConfig
from runtime.evaluate import EvaluateOptions, resolve
from runtime.seeing.trace import Trace, trace_episode


def resolved(
    policy: str, env: str, agents: int | None, **options: str
) -> tuple[RunConfig, PolicyFile]:
    return resolve(
        EvaluateOptions(
            policy=policy,
            env=env,
            agents=agents,
            episodes=1,
            simulate=True,
            seed=3,
            **options,  # type: ignore[arg-type]  # all of them texts
        )
    )


@cache
def episode(policy: str, env: str, agents: int | None, max_steps: int = 0, **options: str) -> Trace:
    """Played once for all tests: nobody writes to a trace."""
    return trace_episode(*resolved(policy, env, agents, **options), max_steps=max_steps)


def battle() -> Trace:
    return episode("shipped", "battle", 20, opponent="scripted")


def relay() -> Trace:
    return episode("shipped", "relay", 16)
