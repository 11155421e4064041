"""Seconds and memory of one update: ours against a plain step-by-step unroll of the same network.

    synthetic episodes (full length, everybody alive) -> Learner.update -> seconds, peak RSS, loss

Everything but the unroll is the same: replay, targets, loss, Adam, parts of the batch. Both start
from the same seeds, so the first loss of both is the same number.
"""

import resource
import time
from dataclasses import replace as changed

import numpy as np
import torch

from agents.policy import PolicySpec, initialise
from configs.load import preset_for
from configs.schema import RunConfig
from envs.base import EnvSpec
from envs.registry import spec_of
from learner.algorithms import base as ours
from learner.comm.gates import GateRule
from learner.comm.unroll import Carry, UnrollInput, UnrollOutput
from learner.experience.episode import Dimensions, Episode
from learner.hardware import set_precision
from learner.learner import Learner
from learner.network import PolicyNetwork
from tests.benchmarks.case import Figures, serve
from tests.benchmarks.update_case import UpdateCase
from tests.plain_unroll import plain_unroll

_MB = 1e6
_MID_TRAINING = 75_000
"""Environment steps: the teacher has still a say, and open edges have their price."""


def measure(case: UpdateCase) -> Figures:
    """Seconds of updates, and what the process takes at most."""
    torch.set_num_threads(case.threads)
    set_precision(case.precision)
    calls = 0

    def counted(
        network: PolicyNetwork,
        window: UnrollInput,
        rule: GateRule,
        carry: Carry | None = None,
        learns: int | None = None,
    ) -> UnrollOutput:
        assert learns is None, "all agents share the network"
        nonlocal calls
        calls += 1
        return plain_unroll(network, window, rule, carry)

    if case.unroll == "plain":
        ours.unroll = counted
    learner = make_learner(case)
    before_mb = _peak_rss_mb()
    laps_s: list[float] = []
    losses: list[float] = []
    for _ in range(case.warm_up + case.updates):
        began_s = time.perf_counter()
        losses.append(learner.update()["loss"])
        if case.device == "cuda":
            torch.cuda.synchronize()
        laps_s.append(time.perf_counter() - began_s)
    if case.cuda_graph == "on" and learner.updates_replayed < case.updates:
        raise RuntimeError(f"only {learner.updates_replayed} updates were replayed")
    if not np.isfinite(losses).all():
        raise ArithmeticError(f"losses {losses}")
    if case.unroll == "plain" and not calls:
        raise RuntimeError("the learner has not called the plain unroll")
    cuda_mb = torch.cuda.max_memory_allocated() / _MB if case.device == "cuda" else None
    measured_s = laps_s[case.warm_up :]
    return {
        "update_s": float(np.median(measured_s)),
        "update_min_s": min(measured_s),
        "first_update_s": laps_s[0],
        "peak_rss_mb": _peak_rss_mb(),
        "rss_before_mb": before_mb,
        "peak_cuda_mb": cuda_mb,
        "first_loss": losses[0],
        "agent_steps_per_s": case.agents
        * case.batch
        * (case.window or case.steps)
        / float(np.median(measured_s)),
    }


def make_learner(case: UpdateCase) -> Learner:
    """A learner whose replay is full of episodes."""
    preset = preset_for("battle")
    config = changed(
        preset,
        num_agents=case.agents,
        learner=changed(
            preset.learner,
            device=case.device,
            precision=case.precision,
            cuda_graph=case.cuda_graph,
            batch_size=case.batch,
            window=case.window,
            learning_starts=1,
            # Nobody else's update has one.
            teacher=preset.learner.teacher if case.as_trained else "",
        ),
    )
    env = spec_of(config.env, case.agents)
    policy = PolicySpec.of(config.network, env.observation_dim, env.num_actions)
    flat = initialise(policy, np.random.default_rng(0))
    learner = Learner(config, policy, Dimensions.of(env), flat, case.device, case.threads)
    for number in range(case.batch):
        learner.add(synthetic_episode(env, config, number, case.steps, deaths=case.as_trained))
    if case.as_trained:
        learner.progress.env_steps = _MID_TRAINING
    return learner


def synthetic_episode(
    env: EnvSpec, config: RunConfig, number: int, steps: int, *, deaths: bool = False
) -> Episode:
    """Noise of the right shapes. Nobody dies, so that there is as much to do as can be; or agents
    die at any time, each as likely as the other.
    """
    rng = np.random.default_rng([config.seed, number])
    agents = env.num_agents
    alive = np.ones((steps + 1, agents), np.bool_)
    if deaths:
        alive = np.arange(steps + 1)[:, None] <= rng.integers(0, steps + 1, agents)
    return Episode(
        dimensions=Dimensions.of(env),
        number=number,
        env_steps=(number + 1) * steps,
        observations=rng.random((steps + 1, agents, env.observation_dim), np.float32).astype(
            np.float16
        ),
        actions=rng.integers(0, env.num_actions, (steps, agents), np.uint8),
        rewards=rng.standard_normal((steps, agents), np.float32) * np.float32(0.1),
        states=rng.random((steps + 1, env.state_dim), np.float32),
        alive=alive,
        terminated=False,
        columns={"gates": np.zeros((steps, agents), np.uint16)},
        first_versions=np.ones(agents, np.uint32),
        last_versions=np.ones(agents, np.uint32),
    )


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MB


if __name__ == "__main__":
    serve(UpdateCase, measure)
