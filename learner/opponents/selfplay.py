"""Self-play in Battle: a memoryless Q-network learns to fight for both sides of the map.

    battles (itself, itself as it was, scripted; both sides) -> n-step transitions of both teams
        -> replay -> double DQN on random reflections -> three layers in a safetensors file

Q-learning learns from whatever was done, so both teams' steps enter the replay, the scripted
players' as well: who never saw a hit would first learn to leave the enemy alone.

IDQN: every agent of a team learns from its own reward with shared parameters and no memory, as the
opponents of the ExpoComm release did. One process: an opponent does not communicate, so there is
nothing here that would need agents of their own.

Dimension key: L = living agents of a team, B = batch, D = observation features, A = actions.
"""

import copy
import json
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]  # untyped
from torch import Tensor, nn
from torch.nn import functional

from configs import streams
from configs.arrays import FloatArray, IntArray
from configs.schedule import linear
from configs.streams import Role
from envs.battle.battle import NUM_ACTIONS, OBSERVATION_DIM
from envs.battle.duel import BLUE, RED, TEAMS, Duel
from envs.battle.map import deploy
from envs.battle.mirror import LEFT_RIGHT_A, UP_DOWN_A, MirroredOpponent, reflect
from envs.battle.opponents import ScriptedOpponent, make_opponent
from envs.opponent import Opponent, UniformArray
from learner import noise
from learner.initialisation import initialise_linear_layers
from learner.opponents.options import OpponentOptions


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


class GreedyLayers:
    """The network as an opponent, greedy or exploring."""

    def __init__(self, layers: Layers, epsilon: float = 0.0) -> None:
        self.layers = layers
        self.epsilon = epsilon

    @torch.no_grad()
    def act(self, observations_BD: FloatArray, uniforms_B: UniformArray) -> IntArray:
        """[B] actions; a row whose number is below epsilon takes a random one, by that number."""
        values_BA = self.layers(torch.from_numpy(observations_BD))  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        greedy_B: IntArray = values_BA.argmax(-1).numpy()
        if not self.epsilon:
            return greedy_B
        explored_B = (uniforms_B / self.epsilon * NUM_ACTIONS).astype(np.int64)
        return np.where(uniforms_B < self.epsilon, explored_B.clip(max=NUM_ACTIONS - 1), greedy_B)


class Transitions(NamedTuple):
    """Rows of n-step transitions of single agents."""

    observations: FloatArray
    """[B, D]"""
    actions: IntArray
    returns: FloatArray
    """[B] discounted rewards of n steps."""
    later: FloatArray
    """[B, D] what was seen n steps later."""
    discounts: FloatArray
    """[B] of what is worth being there; 0 where there is nothing beyond."""


class TransitionReplay:
    """The newest n-step transitions of single agents."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._next = 0
        self._observations = np.zeros((capacity, OBSERVATION_DIM), dtype=np.float16)
        self._later = np.zeros((capacity, OBSERVATION_DIM), dtype=np.float16)
        self._actions = np.zeros(capacity, dtype=np.int64)
        self._returns = np.zeros(capacity, dtype=np.float32)
        self._discounts = np.zeros(capacity, dtype=np.float32)

    def add(
        self,
        observations: FloatArray,
        actions: IntArray,
        returns: FloatArray,
        later: FloatArray,
        discounts: FloatArray,
    ) -> None:
        """Put in rows, in the place of the oldest; the columns of `Transitions`."""
        rows = (self._next + np.arange(len(actions))) % self.capacity
        self._observations[rows] = observations
        self._actions[rows] = actions
        self._returns[rows] = returns
        self._later[rows] = later
        self._discounts[rows] = discounts
        self._next = int((self._next + len(actions)) % self.capacity)
        self.count = min(self.count + len(actions), self.capacity)

    def stored(self) -> Transitions:
        """All rows that there are, in no order."""
        return self._at(np.arange(self.count))

    def _at(self, rows: IntArray) -> Transitions:
        return Transitions(
            self._observations[rows].astype(np.float32),
            self._actions[rows],
            self._returns[rows],
            self._later[rows].astype(np.float32),
            self._discounts[rows],
        )

    def sample(self, rng: np.random.Generator, size: int) -> Transitions:
        """Rows drawn evenly, a quarter of them in each of their four reflections."""
        drawn = self._at(rng.integers(self.count, size=size))
        for part, (left_right, up_down) in zip(
            np.array_split(np.arange(size), 4),
            ((False, False), (True, False), (False, True), (True, True)),
            strict=True,
        ):
            for seen in (drawn.observations, drawn.later):
                seen[part] = reflect(seen[part], left_right=left_right, up_down=up_down)
            if left_right:
                drawn.actions[part] = LEFT_RIGHT_A[drawn.actions[part]]
            if up_down:
                drawn.actions[part] = UP_DOWN_A[drawn.actions[part]]
        return drawn


@dataclass(slots=True)
class _Past:
    """One step of a team, until its n-step return is complete."""

    living: IntArray
    observations: FloatArray
    actions: IntArray
    rewards_N: FloatArray
    """[N] of every agent of the team, by its number."""


class TeamMemory:
    """The last n steps of one team that learns."""

    def __init__(self, num_agents: int, n_step: int, gamma: float) -> None:
        self._num_agents = num_agents
        self._n_step = n_step
        self._gamma = gamma
        self._steps: deque[_Past] = deque()

    def clear(self) -> None:
        self._steps.clear()

    def push(
        self, living: IntArray, observations: FloatArray, actions: IntArray, rewards: FloatArray
    ) -> None:
        rewards_N = np.zeros(self._num_agents, dtype=np.float32)
        rewards_N[living] = rewards
        self._steps.append(_Past(living, observations, actions, rewards_N))

    def pop_into(
        self, replay: TransitionReplay, living: IntArray, seen: FloatArray, *, over: bool
    ) -> None:
        """Store what is complete: the oldest step, or all of them at the end of an episode.

        Args:
            living: who lives now, and may be bootstrapped from.
            seen: what they see; without rows where the battle is decided.
            over: nothing follows.
        """
        while len(self._steps) >= self._n_step or (over and self._steps):
            first = self._steps[0]
            total_N = np.zeros(self._num_agents, dtype=np.float32)
            for i, step in enumerate(self._steps):
                total_N += self._gamma**i * step.rewards_N
            row_of_N = np.full(self._num_agents, -1)
            row_of_N[living] = np.arange(len(living))
            rows = row_of_N[first.living]
            there = rows >= 0
            later = np.zeros_like(first.observations)
            later[there] = seen[rows[there]]
            discounts = np.where(there, self._gamma ** len(self._steps), 0.0).astype(np.float32)
            replay.add(first.observations, first.actions, total_N[first.living], later, discounts)
            self._steps.popleft()


class _Battle:
    """One of the battles in progress and who fights in it."""

    def __init__(self, options: OpponentOptions) -> None:
        self.duel = Duel(deploy(options.agents))
        self.players: list[Opponent] = []
        self.memories = [TeamMemory(options.agents, options.n_step, options.gamma) for _ in TEAMS]


class SelfPlay:
    """Battles and updates in turn."""

    def __init__(self, options: OpponentOptions) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self.rng = streams.generator(options.seed, Role.SELF_PLAY)
        self.online = Layers(options.hidden)
        initialise_linear_layers(self.online, noise.generator(options.seed, Role.NETWORKS))
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.online.parameters(), lr=options.learning_rate)
        self.replay = TransitionReplay(options.replay)
        self.explorer = GreedyLayers(self.online, 1.0)
        self.past: list[GreedyLayers] = []
        self.env_steps = 0
        self.updates = 0
        self._epsilon = linear(1.0, options.epsilon_end, max(options.steps // 4, 1))
        self._rate = linear(1.0, 0.1, options.steps)
        self._owed = 0.0
        self._num_episodes = 0
        self.losses: deque[float] = deque(maxlen=500)
        self._battles = [_Battle(options) for _ in range(options.battles)]
        for battle in self._battles:
            self._begin(battle)

    def _begin(self, battle: _Battle) -> None:
        """Reset a battle and draw who fights: itself twice, or somebody else on either side."""
        self._num_episodes += 1
        seed, number = self.options.seed, self._num_episodes
        battle.duel.reset(streams.number(seed, Role.SELF_PLAY_BATTLE, episode=number))
        for memory in battle.memories:
            memory.clear()
        chance = self.rng.random()
        battle.players = [self.explorer, self.explorer]
        side = int(self.rng.integers(2))
        if chance < self.options.scripted:
            scripted = ScriptedOpponent()
            battle.players[side] = scripted if side == BLUE else MirroredOpponent(scripted)
        elif chance < self.options.scripted + self.options.past and self.past:
            battle.players[side] = self.past[int(self.rng.integers(len(self.past)))]

    def step(self) -> None:
        """One step of every battle, and the updates that are due for them."""
        options = self.options
        self.explorer.epsilon = self._epsilon(self.env_steps)
        seen: list[tuple[FloatArray, FloatArray]] = [
            (battle.duel.observe(RED), battle.duel.observe(BLUE)) for battle in self._battles
        ]
        actions = self._actions(seen)
        for battle, (red, blue), (red_seen, blue_seen) in zip(
            self._battles, actions, seen, strict=True
        ):
            duel = battle.duel
            living = [duel.living(RED), duel.living(BLUE)]
            outcomes = duel.step(red, blue)
            for team, (acted, observed) in enumerate(((red, red_seen), (blue, blue_seen))):
                memory = battle.memories[team]
                rewards = outcomes[team].rewards_L.clip(max=options.reward_clip)
                memory.push(living[team], observed, acted, rewards)
                left = living[team][outcomes[team].survived_L]
                if duel.is_decided or not len(left):
                    left, now = left[:0], observed[:0]
                else:
                    now = duel.observe(team)
                memory.pop_into(self.replay, left, now, over=duel.is_over)
            if duel.is_over:
                self._begin(battle)
        self.env_steps += len(self._battles)
        self._owed += options.updates_per_step * len(self._battles)
        while self._owed >= 1.0:
            self._owed -= 1.0
            if self.replay.count >= 10 * options.batch_size:
                self._update()

    def _actions(
        self, seen: list[tuple[FloatArray, FloatArray]]
    ) -> list[tuple[IntArray, IntArray]]:
        """Ask everybody who plays once, for all teams that it plays."""
        rows: dict[int, list[tuple[int, int]]] = {}
        players: dict[int, Opponent] = {}
        for b, battle in enumerate(self._battles):
            for team, player in enumerate(battle.players):
                # Scripted players are alike, whatever object they are.
                key = id(player) if isinstance(player, GreedyLayers) else -1 - team
                players[key] = player
                rows.setdefault(key, []).append((b, team))
        chosen: list[list[IntArray]] = [[np.zeros(0, np.int64)] * 2 for _ in self._battles]
        for key, places in rows.items():
            observations = [seen[b][team] for b, team in places]
            together = np.concatenate(observations)
            actions = players[key].act(together, self.rng.random(len(together)))
            ends = np.cumsum([len(o) for o in observations])[:-1]
            for (b, team), part in zip(places, np.split(actions, ends), strict=True):
                chosen[b][team] = part
        return [(red, blue) for red, blue in chosen]

    def _update(self) -> None:
        options = self.options
        seen, actions, returns, later, discounts = (
            torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
            for array in self.replay.sample(self.rng, options.batch_size)
        )
        with torch.no_grad():
            best = self.online(later).argmax(-1, keepdim=True)
            targets = returns + discounts * self.target(later).gather(-1, best).squeeze(-1)
        values = self.online(seen).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        loss = functional.smooth_l1_loss(values, targets)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        for group in self.optimiser.param_groups:
            group["lr"] = options.learning_rate * self._rate(self.env_steps)
        self.optimiser.step()  # pyright: ignore[reportUnknownMemberType]  # untyped in torch
        with torch.no_grad():
            for kept, fresh in zip(self.target.parameters(), self.online.parameters(), strict=True):
                kept.lerp_(fresh, options.target_rate)
        self.updates += 1
        self.losses.append(loss.item())

    def keep_version(self) -> None:
        """Make the network as it is now one of the opponents to come."""
        self.past.append(GreedyLayers(copy.deepcopy(self.online).requires_grad_(False), 0.02))


def contest(
    red: Opponent, blue: Opponent, *, agents: int, battles: int, seed: int
) -> tuple[float, float, float]:
    """Shares of battles that red and blue win, and reds over blues that are left in the mean."""
    rng = streams.generator(seed, Role.CONTEST)
    duel = Duel(deploy(agents))
    red_wins, blue_wins, margin = 0, 0, 0
    for battle in range(battles):
        duel.reset(streams.number(seed, Role.CONTEST_BATTLE, episode=battle))
        while not duel.is_over:
            seen = duel.observe(RED), duel.observe(BLUE)
            actions = [
                player.act(o, rng.random(len(o)))
                for player, o in zip((red, blue), seen, strict=True)
            ]
            duel.step(actions[RED], actions[BLUE])
        ahead = duel.num_living(RED) - duel.num_living(BLUE)
        red_wins += ahead > 0
        blue_wins += ahead < 0
        margin += ahead
    return red_wins / battles, blue_wins / battles, margin / battles


def evaluate(layers: Layers, options: OpponentOptions) -> dict[str, float]:
    """Greedy battles from both sides against random and scripted, and against itself."""
    player = GreedyLayers(layers)
    size = {"agents": options.agents, "battles": options.evaluate_battles, "seed": 77_000}
    figures: dict[str, float] = {}
    for name in ("random", "scripted"):
        other = make_opponent(name)
        wins, _, margin = contest(player, other, **size)
        figures[f"{name}/wins_left"], figures[f"{name}/margin_left"] = wins, margin
        _, wins, margin = contest(MirroredOpponent(other), player, **size)
        figures[f"{name}/wins_right"], figures[f"{name}/margin_right"] = wins, -margin
    wins, losses, _ = contest(player, player, **size)
    figures["itself/wins_left"], figures["itself/wins_right"] = wins, losses
    return figures


def save_layers(layers: Layers, path: Path, metadata: dict[str, str]) -> None:
    """Write the file that `envs.battle.opponents.PolicyFileOpponent` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in layers.state_dict().items()}
    save_file(tensors, path, metadata)


def train(options: OpponentOptions) -> None:
    """Fight and learn until all steps are done; writes the network and its curve as it goes on."""
    out = Path(options.out)
    training = SelfPlay(options)
    begun_s = time.monotonic()
    evaluate_at, keep_at = 0, options.snapshot_steps
    curve = out.with_suffix(".jsonl")
    curve.parent.mkdir(parents=True, exist_ok=True)
    with curve.open("w") as log:
        while True:
            if training.env_steps >= evaluate_at or training.env_steps >= options.steps:
                row = {
                    "env_steps": training.env_steps,
                    "updates": training.updates,
                    "wall_s": round(time.monotonic() - begun_s, 1),
                    "epsilon": round(training.explorer.epsilon, 4),
                    "loss": float(np.mean(training.losses)) if training.losses else None,
                    **evaluate(training.online, options),
                }
                line = json.dumps(row)
                print(line, flush=True)
                log.write(line + "\n")
                log.flush()
                evaluate_at += options.evaluate_steps
                described = {"env_steps": str(training.env_steps), "seed": str(options.seed)}
                save_layers(training.online, out, described)
            if training.env_steps >= options.steps:
                return
            if training.env_steps >= keep_at:
                training.keep_version()
                keep_at += options.snapshot_steps
            training.step()
