"""Prey for AdversarialPursuit: memoryless Q-networks of both teams learn against each other.

    pursuits -> transitions of predators and of prey -> two replays -> double DQN
        -> the prey's three layers in a safetensors file

IDQN, as the prey of the ExpoComm release: every agent of a team learns from its own reward, with
shared parameters. In some of the pursuits the prey wander at random, or nobody would ever be tagged
and predators learn nothing that prey could learn from.

Dimension key: E = pursuits, N = predators, M = prey, B = rows of a batch, D = observation features,
A = actions.
"""

import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # untyped
from torch import Tensor, nn
from torch.nn import functional

from configs import streams
from configs.arrays import FloatArray, IntArray
from configs.schedule import linear
from configs.streams import Role
from envs.adversarial_pursuit.habitat import settle
from envs.adversarial_pursuit.prey import RandomPrey, make_prey
from envs.adversarial_pursuit.pursuit import (
    NUM_ACTIONS,
    NUM_PREY_ACTIONS,
    OBSERVATION_DIM,
    Pursuit,
)
from envs.opponent import Opponent, UniformArray
from learner import noise
from learner.initialisation import initialise_linear_layers
from learner.opponents.prey_options import PreyOptions


class Layers(nn.Module):
    """Three linear layers with ReLU between them: [B, D] -> [B, A]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(OBSERVATION_DIM, hidden)
        self.layer2 = nn.Linear(hidden, hidden)
        self.layer3 = nn.Linear(hidden, NUM_ACTIONS)

    def forward(self, observations_BD: Tensor) -> Tensor:
        hidden = functional.relu(self.layer1(observations_BD))
        return self.layer3(functional.relu(self.layer2(hidden)))


class Team:
    """One team's network, what it has met, and how it learns from that."""

    def __init__(self, options: PreyOptions, num_actions: int, generator: torch.Generator) -> None:
        """Begin untrained.

        Args:
            num_actions: actions that the team has, of those that the network values.
        """
        self._options = options
        self._num_actions = num_actions
        self.online = Layers(options.hidden)
        initialise_linear_layers(self.online, generator)
        self._target = copy.deepcopy(self.online).requires_grad_(False)
        self._optimiser = torch.optim.Adam(self.online.parameters(), lr=options.learning_rate)
        self._rate = linear(1.0, 0.1, options.steps)
        size = options.replay
        self._seen = np.zeros((size, OBSERVATION_DIM), dtype=np.int8)
        self._later = np.zeros((size, OBSERVATION_DIM), dtype=np.int8)
        self._actions = np.zeros(size, dtype=np.int64)
        self._rewards = np.zeros(size, dtype=np.float32)
        self._count = 0
        self._next = 0

    @torch.no_grad()
    def act(
        self, observations_BD: FloatArray, uniforms_B: UniformArray, epsilon: float
    ) -> IntArray:
        """[B] actions; a row whose number is below epsilon takes a random one, by that number."""
        values_BA = self.online(torch.from_numpy(observations_BD))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        greedy_B: IntArray = values_BA[:, : self._num_actions].argmax(-1).numpy()
        if not epsilon:
            return greedy_B
        explored_B = (uniforms_B / epsilon * self._num_actions).astype(np.int64)
        return np.where(uniforms_B < epsilon, explored_B.clip(max=self._num_actions - 1), greedy_B)

    def remember(
        self, seen: FloatArray, actions: IntArray, rewards: FloatArray, later: FloatArray
    ) -> None:
        """Put in one row for each agent, in the place of the oldest.

        What is seen are zeros, ones and minus ones, which a byte holds. There is no end: time that
        is up is not a state.
        """
        rows = (self._next + np.arange(len(actions))) % self._options.replay
        self._seen[rows], self._later[rows] = seen, later
        self._actions[rows], self._rewards[rows] = actions, rewards
        self._next = int((self._next + len(actions)) % self._options.replay)
        self._count = min(self._count + len(actions), self._options.replay)

    def update(self, rng: np.random.Generator, env_steps: int) -> None:
        """One step of double DQN, once there is enough to draw from."""
        options = self._options
        if self._count < 10 * options.batch_size:
            return
        rows = rng.integers(self._count, size=options.batch_size)
        seen, later = (
            torch.from_numpy(each[rows].astype(np.float32))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
            for each in (self._seen, self._later)
        )
        actions, rewards = (
            torch.from_numpy(each[rows])  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
            for each in (self._actions, self._rewards)
        )
        with torch.no_grad():
            best = self.online(later)[:, : self._num_actions].argmax(-1, keepdim=True)
            targets = rewards + options.gamma * self._target(later).gather(-1, best).squeeze(-1)
        values = self.online(seen).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        loss = functional.smooth_l1_loss(values, targets)
        self._optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        for group in self._optimiser.param_groups:
            group["lr"] = options.learning_rate * self._rate(env_steps)
        self._optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        with torch.no_grad():
            kept = zip(self._target.parameters(), self.online.parameters(), strict=True)
            for slow, fresh in kept:
                slow.lerp_(fresh, options.target_rate)


class GreedyPrey:
    """The prey as they are now, as an opponent."""

    def __init__(self, team: Team) -> None:
        self._team = team

    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        return self._team.act(observations_BD, uniforms_B, epsilon=0.0)


class PreyTraining:
    """Pursuits and updates in turn."""

    def __init__(self, options: PreyOptions) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self.env_steps = 0
        self._rng = streams.generator(options.seed, Role.SELF_PLAY)
        generator = noise.generator(options.seed, Role.NETWORKS)
        self.predators = Team(options, NUM_ACTIONS, generator)
        self.prey = Team(options, NUM_PREY_ACTIONS, generator)
        self._epsilon = linear(1.0, options.epsilon_end, max(options.steps // 4, 1))
        self._pursuits = [Pursuit(settle(options.agents)) for _ in range(options.pursuits)]
        self._wanders_E = np.arange(options.pursuits) < round(options.easy * options.pursuits)
        self._num_episodes = 0
        self._seen = [self._begin(pursuit) for pursuit in self._pursuits]

    def _begin(self, pursuit: Pursuit) -> tuple[FloatArray, FloatArray]:
        """What predators and prey see at the beginning of the next episode."""
        self._num_episodes += 1
        seed, number = self.options.seed, self._num_episodes
        snapshot = pursuit.reset(streams.number(seed, Role.SELF_PLAY_BATTLE, episode=number))
        return snapshot.observations_ND.astype(np.float32), pursuit.opponent_observations()

    def step(self) -> None:
        """One step of every pursuit, and one update of both teams."""
        epsilon = self._epsilon(self.env_steps)
        predators, prey = (np.concatenate(part) for part in zip(*self._seen, strict=True))
        predators_act = self.predators.act(predators, self._rng.random(len(predators)), epsilon)
        uniforms = self._rng.random(len(prey))
        wander = np.repeat(self._wanders_E, len(prey) // len(self._pursuits))
        prey_act = np.where(
            wander,
            RandomPrey().act(prey, uniforms),
            self.prey.act(prey, uniforms, epsilon),
        )
        for e, (pursuit, hunt, flee) in enumerate(
            zip(
                self._pursuits,
                np.split(predators_act, len(self._pursuits)),
                np.split(prey_act, len(self._pursuits)),
                strict=True,
            )
        ):
            seen = self._seen[e]
            pursuit.set_opponent_actions(flee)
            transition = pursuit.step(hunt)
            now = (
                transition.after.observations_ND.astype(np.float32),
                pursuit.opponent_observations(),
            )
            self.predators.remember(seen[0], hunt, transition.rewards_N, now[0])
            self.prey.remember(seen[1], flee, pursuit.opponent_rewards(), now[1])
            self._seen[e] = self._begin(pursuit) if transition.truncated else now
        self.env_steps += len(self._pursuits)
        self.predators.update(self._rng, self.env_steps)
        self.prey.update(self._rng, self.env_steps)


def layers_to_play(online: Layers) -> dict[str, Tensor]:
    """The tensors of a file of prey. Actions that prey do not have were never trained: they are
    valued as the first one, which is what they are played as.
    """
    tensors = {name: tensor.detach().clone() for name, tensor in online.state_dict().items()}
    for part in ("weight", "bias"):
        values = tensors[f"layer3.{part}"]
        values[NUM_PREY_ACTIONS:] = values[0]
    return tensors


def mean_return(predators: Team, prey: Opponent, options: PreyOptions) -> float:
    """Of greedy predators, in episodes that are the same every time."""
    rng = streams.generator(options.seed, Role.CONTEST)
    pursuit = Pursuit(settle(options.agents))
    total = 0.0
    for episode in range(options.evaluate_pursuits):
        snapshot = pursuit.reset(streams.number(77_000, Role.CONTEST_BATTLE, episode=episode))
        over = False
        while not over:
            seen = pursuit.opponent_observations()
            pursuit.set_opponent_actions(prey.act(seen, rng.random(len(seen))))
            observations = snapshot.observations_ND.astype(np.float32)
            uniforms = rng.random(len(observations))
            transition = pursuit.step(predators.act(observations, uniforms, epsilon=0.0))
            total += float(transition.rewards_N.mean())
            snapshot, over = transition.after, transition.truncated
    return total / options.evaluate_pursuits


def train(options: PreyOptions) -> None:
    """Hunt, flee and learn until all steps are done; writes prey and their curve as it goes on."""
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    training = PreyTraining(options)
    begun_s, evaluate_at = time.monotonic(), 0
    with out.with_suffix(".jsonl").open("w") as log:
        while True:
            over = training.env_steps >= options.steps
            if training.env_steps >= evaluate_at or over:
                row = {
                    "env_steps": training.env_steps,
                    "wall_s": round(time.monotonic() - begun_s, 1),
                    "random/return": mean_return(training.predators, RandomPrey(), options),
                    "scripted/return": mean_return(
                        training.predators, make_prey("scripted"), options
                    ),
                    "trained/return": mean_return(
                        training.predators, GreedyPrey(training.prey), options
                    ),
                }
                line = json.dumps(row)
                print(line, flush=True)
                log.write(line + "\n")
                log.flush()
                evaluate_at += options.evaluate_steps
                described = {"env_steps": str(training.env_steps), "seed": str(options.seed)}
                save_file(layers_to_play(training.prey.online), out, described)
            if over:
                return
            training.step()
