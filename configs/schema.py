"""Everything that describes a run, as one frozen tree of dataclasses.

    schema defaults < preset of the environment < --config FILE < command line  ->  RunConfig

Standard library and tyro only, so that every process can import it. A preset holds differences,
never defaults; `configs.load` does the merging. Objects receive the sub-tree they need.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from configs.ranges import between, check_ranges, within

EnvName = Literal["battle", "relay"]
Algorithm = Literal["iql", "vdn", "qmix", "wqmix", "res", "facmac"]
Comm = Literal["sops", "none"]
GateTiming = Literal["causal", "paper"]
GateMode = Literal["learned", "open", "closed"]
MessageDtype = Literal["float16", "float32"]
BeaconDtype = Literal["int8", "float32"]
PublishMode = Literal["dense", "delta", "sparse"]
PublishDtype = Literal["float32", "float16"]
Transport = Literal["ipc", "tcp"]
SparseLayer = Literal[
    "scorer", "messages", "mixer",
    "encoder", "gru", "query", "key", "value", "message", "q_hidden", "q_out",
    "beacon", "edge", "scorer_hidden", "scorer_out",
    "hyper_w_1", "hyper_w_final", "hyper_b_1", "v", "net",
]  # fmt: skip
"""Groups of layers, then those of policy and mixers by their names (learner/sparse/layers.py)."""

MAX_AGENTS = 4096
"""Agent ids travel as 16 bits and edge masks as 16 bits: 4096 agents have 12 offsets."""

MAX_COPIES = 1024
"""Environment copies that one packet may speak of."""

MAX_SHARDS = 64
"""Processes that environment copies may be shared out among."""

MAX_OFFSETS = 12
"""Edges that an agent has at most, those of MAX_AGENTS."""

MAX_CYCLES = 60_000
"""Steps of an episode."""

MAX_STEPS = 10**12
"""Environment steps of a run: three years at ten thousand a second."""

MAX_UPDATES = 10**9
"""Gradient steps between two events."""

MAX_EPISODES = 10**6
"""Episodes of a replay, a journal or an evaluation."""

MAX_THREADS = 512
"""Threads of a process."""

MAX_PORT = 65_535

MAX_SEED = 2**31 - 1

START_S_PER_AGENT = 0.2
"""More time for a start with each agent: a quiet machine with two cores takes 0.03 s."""

_AS_SPARSITY = (-1.0, "for sparse.sparsity")


def _short(name: str) -> object:
    """A nested field whose flag keeps its short name: --env instead of --env.name."""
    return tyro.conf.arg(name=name, prefix_name=False)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvConfig:
    name: Annotated[EnvName, _short("env")] = "battle"
    """Environment: battle (MAgent2) or relay (diagnostic, communication is everything)."""

    copies: Annotated[int, _short("env-copies"), between(1, MAX_COPIES)] = 1
    """Environment copies E that every agent plays at once; 1 is what deployment looks like."""

    opponent: Annotated[str, _short("opponent")] = "random"
    """Battle's other team: random, scripted, idqn, or the path of a safetensors file. Several
    joined by + share out the episodes; a schedule says when each begins, in training steps:
    random,random+scripted@50000,scripted+policy.safetensors@150000."""

    evaluation_opponent: Annotated[str, _short("evaluation-opponent")] = ""
    """Opponents of evaluation episodes, in turn; empty takes those of the schedule's end."""

    max_cycles: Annotated[int, between(1, MAX_CYCLES)] = 200
    """Battle: environment steps after which an episode is truncated."""

    shards: Annotated[int, between(0, MAX_SHARDS)] = 0
    """Processes that the copies are shared out among; 1 keeps them in the world's own, 0 takes one
    for every four cores. What is played does not depend on it."""

    def __post_init__(self) -> None:
        check_ranges(self, "env")
        _require(self.opponent != "", "env.opponent must not be empty: random, scripted or a file")


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    hidden: Annotated[int, between(1, 4096)] = 64
    """Units H of the encoder, the GRU and the Q head."""

    message: Annotated[int, between(1, 4096)] = 64
    """Numbers M in one message."""

    attention: Annotated[int, between(1, 4096)] = 16
    """Query and key size of the attention over messages."""

    beacon: Annotated[int, between(1, 4096)] = 16
    """Numbers Z in one beacon, the node embedding that the scorer reads."""

    edge_embedding: Annotated[int, between(1, 4096)] = 8
    """Size of the edge-type embedding."""

    scorer: Annotated[int, between(1, 4096)] = 32
    """Hidden units of the pairwise scorer."""

    message_dtype: MessageDtype = "float16"
    """Number format of messages on the wire, also applied in the learner's unroll."""

    beacon_dtype: BeaconDtype = "int8"
    """Number format of beacons on the wire, also applied in the learner's unroll."""

    beacon_delta: Annotated[float, within(0.0, 2.0)] = 0.0
    """Change of a beacon (whose entries lie in [-1, 1]), at its largest, that is not worth saying:
    neighbours go on with what they heard last. 0 says every change; at most 2."""

    def __post_init__(self) -> None:
        check_ranges(self, "network")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    timing: GateTiming = "causal"
    """causal: score with the newest beacon heard (one exchange a step); paper: equation 2 (two)."""

    mode: GateMode = "learned"
    """learned: the scorer decides; open or closed: every edge always or never."""

    temperature_start: Annotated[float, within(0.01, 100.0)] = 1.0
    """Gumbel-sigmoid temperature at the beginning of training."""

    temperature_end: Annotated[float, within(0.01, 100.0)] = 0.3
    """Temperature after the annealing."""

    temperature_steps: Annotated[int, between(1, MAX_STEPS)] = 500_000
    """Environment steps over which the temperature falls linearly."""

    budget: Annotated[int, between(0, MAX_OFFSETS)] = 0
    """Edges that an agent may open in one step, those with its highest scores; 0 sets no limit."""

    noise_share: Annotated[float, within(0.0, 1.0)] = 1.0
    """Share of a batch's episodes that the learner unrolls with noisy gates, the others as they
    will be played; 1 is the paper's. With a price, 0.5 keeps a policy from relying on edges that
    only chance opens."""

    price: Annotated[float, within(0.0, 1000.0)] = 0.0
    """What an open edge costs an agent in one step, charged in the learner's loss; 0 is free."""

    price_start: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps before anything is charged: what no message has taught yet is worth
    nothing, and an early price shuts the gate for good."""

    price_steps: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps over which the price rises linearly from 0 to its full height."""

    price_loss: Annotated[float, within(0.0, 1e6)] = 0.0
    """Mean squared TD error of the episodes without noise up to which the price is charged; from
    there it falls, to nothing at twice as much. 0 charges whatever the loss."""

    def __post_init__(self) -> None:
        check_ranges(self, "gate")
        _require(
            self.temperature_end <= self.temperature_start,
            "gate.temperature_end must not be above gate.temperature_start, got "
            f"{self.temperature_end} with start {self.temperature_start}",
        )
        _require(
            self.price_loss == 0.0 or self.noise_share < 1.0,
            "gate.price_loss looks at episodes without noise: give gate.noise_share less than 1",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseConfig:
    """Networks of which only a share of the weights ever exists (learner/sparse/)."""

    method: Literal["none", "static", "set", "rigl"] = "none"
    """none: dense; static: the links drawn at the start stay; set: the weakest are replaced by
    chance; rigl: by those with the largest gradient (algorithm 1 of MAST)."""

    sparsity: Annotated[float, within(0.0, 1.0, below_high=True)] = 0.9
    """Share of zeros among the weights that are masked together; biases do not count."""

    allocation: Literal["erdos-renyi", "uniform"] = "erdos-renyi"
    """How links are shared out to layers: erdos-renyi gives small ones more, uniform all alike."""

    policy: Annotated[float, within(0.0, 1.0, below_high=True, other=_AS_SPARSITY)] = -1.0
    """Sparsity of the agents' networks by themselves; -1: `sparsity`. With this or `mixer` given
    the two are masked apart, with neither all weights of both share one total."""

    mixer: Annotated[float, within(0.0, 1.0, below_high=True, other=_AS_SPARSITY)] = -1.0
    """Sparsity of the mixers and their hypernetworks by themselves; -1: `sparsity`."""

    dense: tuple[SparseLayer, ...] = ()
    """Layers that keep all their weights, or groups of such: scorer, messages, mixer. They do not
    count in `sparsity`."""

    initial: Literal["dense", "scaled"] = "dense"
    """Weights at the start: dense takes those of the dense network as they are (MAST, algorithm 2);
    scaled multiplies each unit's by sqrt(inputs / links), so that what it hears varies as much as
    in the dense network. A policy that has been trained keeps its own."""

    fraction: Annotated[float, within(0.0, 1.0)] = 0.5
    """Share ζ0 of a layer's links that the first evolution replaces; it falls as a cosine to 0."""

    period: Annotated[int, between(1, MAX_UPDATES)] = 200
    """Gradient steps between two evolutions of the topology."""

    end: Annotated[int, between(0, MAX_UPDATES)] = 0
    """Gradient steps after which the topology stays; 0 evolves it to the end of the run's steps."""

    pattern: Literal["unstructured", "block", "n:m"] = "unstructured"
    """block: `group` neighbouring inputs of a unit have their weights together or not at all; n:m:
    of every `group` neighbouring inputs the same number has weights, which comes near the sparsity
    asked for but seldom to it: the learner's log says what came of it."""

    group: Annotated[int, between(1, 256)] = 4
    """Neighbouring inputs in a block, or M of n:m; in layers whose inputs it does not divide the
    next smaller number that does."""

    def __post_init__(self) -> None:
        check_ranges(self, "sparse")
        own = (self.policy, self.mixer)
        shares = own if -1.0 not in own else (self.sparsity, *own)
        for share in shares:
            _require(
                self.pattern != "n:m" or share == -1.0 or (1.0 - share) * self.group > 0.4999,
                f"sparse.pattern n:m keeps at least one weight of a group: with sparsity {share} "
                f"give sparse.group more than {self.group}",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentsConfig:
    dead: Literal["silent", "relay"] = "silent"
    """silent: a dead agent sends nothing; relay: it keeps relaying, as the reference code does."""

    peer_timeout_s: Annotated[float, within(0.001, 60.0)] = 2.0
    """Seconds an agent waits for packets that are under way before it counts them as late."""

    epsilon_start: Annotated[float, within(0.0, 1.0)] = 1.0
    """Exploration rate at the beginning of training."""

    epsilon_end: Annotated[float, within(0.0, 1.0)] = 0.05
    """Exploration rate after the annealing."""

    epsilon_steps: Annotated[int, between(1, MAX_STEPS)] = 500_000
    """Environment steps over which epsilon falls linearly."""

    adviser: str = ""
    """Battle: who is asked for an action in exploring steps instead of chance alone: scripted, or
    the path of an opponent's file; empty asks nobody."""

    advice: Annotated[float, within(0.0, 1.0)] = 0.5
    """Share of the exploring steps in which the adviser is asked."""

    record_q: bool = False
    """Ship action values with the trajectories (the parity test reads them)."""

    def __post_init__(self) -> None:
        check_ranges(self, "agents")
        _require(
            self.epsilon_end <= self.epsilon_start,
            "agents.epsilon_end must not be above agents.epsilon_start, got "
            f"{self.epsilon_end} with start {self.epsilon_start}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    algorithm: Annotated[Algorithm, _short("algorithm")] = "iql"
    """iql: individual rewards, no mixer; vdn, qmix: team reward (mean of the individual ones);
    wqmix: QMIX weighted optimistically, with targets from a central critic without restriction;
    res: QMIX with a softmax over joint actions in its targets and a pull towards returns;
    facmac: policies that climb a critic whose agents' values are mixed as in QMIX."""

    device: Annotated[Literal["auto", "cpu", "cuda"], _short("device")] = "auto"
    """Where the learner trains; auto takes CUDA if there is one."""

    threads: Annotated[int, between(0, MAX_THREADS)] = 0
    """Torch threads of the learner; 0 takes half of the cores that the run may use (affinity and
    cgroup quota), the agents need the others."""

    ranks: Annotated[int, between(1, 64)] = 1
    """Processes that share each update (DistributedDataParallel under torchrun's agent), on GPUs
    one each; torch threads are divided among them."""

    precision: Literal["float32", "tf32"] = "float32"
    """On CUDA: tf32 lets matrix products round their factors to 10 bits of fraction."""

    prefetch: Literal["auto", "on", "off"] = "auto"
    """Gather the next update's batch while this one is computed, if it is owed already: it misses
    the episodes that arrive meanwhile. auto: on CUDA; on a CPU it would compete with the agents."""

    gamma: Annotated[float, within(0.0, 1.0, above_low=True)] = 0.99
    """Discount factor."""

    learning_rate: Annotated[float, within(1e-9, 1.0)] = 5e-4
    """Adam's step size."""

    learning_rate_end: Annotated[float, within(0.0, 1.0)] = 0.0
    """Step size at the end of the run's steps, to which it falls linearly; 0 keeps it constant."""

    batch_size: Annotated[int, between(1, 65_536)] = 32
    """Episodes (or windows of episodes) in one update."""

    window: Annotated[int, between(0, MAX_CYCLES)] = 0
    """Steps of an episode that one update unrolls, at a random start; 0 means the whole episode."""

    burn_in: Annotated[int, between(0, MAX_CYCLES)] = 0
    """Steps at the head of a window that only warm up the recurrent state (no loss)."""

    updates_per_episode: Annotated[float, within(0.001, 1000.0)] = 1.0
    """Gradient steps for each episode that enters the replay."""

    max_backlog: Annotated[int, between(1, 10**6)] = 64
    """Updates the learner may owe before the worlds wait for it."""

    replay_episodes: Annotated[int, between(1, MAX_EPISODES)] = 2000
    """Episodes the replay holds; the oldest leave first."""

    online_episodes: Annotated[int, between(0, MAX_EPISODES)] = 0
    """Dual replay: newest episodes from which a part of each batch is drawn; 0 draws all from all
    (MAST: 128 beside 5000)."""

    online_share: Annotated[float, within(0.0, 1.0)] = 0.25
    """Dual replay: share of a batch that comes from the newest episodes, rounded to whole ones."""

    replay_distance: Annotated[float, within(0.0, 1.0)] = 0.0
    """Dynamic replay (RLx2): share of the actions in the oldest episodes that the present policy
    may choose otherwise before the oldest tenth is forgotten; 0 forgets nothing early."""

    replay_check_period: Annotated[int, between(1, MAX_UPDATES)] = 200
    """Dynamic replay: gradient steps between looks at the oldest episodes."""

    learning_starts: Annotated[int, between(1, MAX_EPISODES)] = 32
    """Episodes in the replay before the first update."""

    td_lambda: Annotated[float, within(0.0, 1.0)] = 0.0
    """Share λ of the recorded return in TD targets: 0 trusts the target network after one step, 1
    never before the window's end."""

    n_step: Annotated[int, between(1, MAX_CYCLES)] = 1
    """Rewards in a TD target before the target network's value, of one fixed number (RLx2) and not
    mixed by λ; 1 leaves the choice to td_lambda."""

    td_lambda_start: Annotated[int, between(0, MAX_STEPS)] = 0
    """Environment steps before td_lambda or n_step count: targets look one step ahead until then
    (MAST: 3/8 of the run)."""

    huber: Annotated[float, within(0.0, 1e6)] = 0.0
    """TD errors beyond this count linearly and not squared; 0 squares all."""

    double_q: bool = True
    """Choose the bootstrap action by the online network and value it by the target network."""

    operator: Literal["max", "mellowmax"] = "max"
    """What makes one value of an agent's next action values: the best action's, or the soft
    mellowmax of all (MAST, eq. 3), which chooses no action, so that double_q has no say."""

    mellowmax_alpha: Annotated[float, within(0.0, 1000.0)] = 1.0
    """Soft mellowmax: inverse temperature of the weights; 0 is mellowmax."""

    mellowmax_omega: Annotated[float, within(0.001, 1000.0)] = 10.0
    """Soft mellowmax: the larger, the closer to the maximum."""

    target_update_period: Annotated[int, between(1, MAX_UPDATES)] = 200
    """Gradient steps between copies of the online network into the target network."""

    target_rate: Annotated[float, within(1e-6, 1.0)] = 1.0
    """Share of the online network in such a copy: 1 replaces the target, less lets it follow."""

    grad_clip: Annotated[float, within(0.0, 1e6)] = 10.0
    """Largest norm of the gradient over all parameters; 0 sets no limit."""

    reward_scale: Annotated[float, within(1e-6, 1e6)] = 1.0
    """Factor on rewards inside the learner only; reported returns are never scaled."""

    reward_clip: Annotated[float, within(0.0, 1e6)] = 0.0
    """Largest reward, before scaling, that counts inside the learner; 0 lets all count. In Battle a
    kill earns fifty times a hit, and whose blow it is that kills is chance."""

    mixing_embed: Annotated[int, between(1, 1024)] = 32
    """QMIX: hidden units of the monotonic mixer."""

    hypernet_embed: Annotated[int, between(1, 1024)] = 64
    """QMIX: hidden units of the mixer's hypernetworks."""

    wqmix_alpha: Annotated[float, within(0.0, 1.0)] = 0.1
    """OW-QMIX: weight of squared errors where q_tot is not below its target."""

    central_hidden: Annotated[int, between(1, 4096)] = 64
    """OW-QMIX: hidden units of the central critic's agents."""

    central_embed: Annotated[int, between(1, 4096)] = 256
    """OW-QMIX: hidden units of the central critic's mixer."""

    critic_hidden: Annotated[int, between(1, 4096)] = 64
    """FACMAC: hidden units of the critic's layers."""

    critic_rate: Annotated[float, within(1e-6, 1000.0)] = 0.2
    """FACMAC: step size of critic and mixer, as a share of learning_rate (the paper's code: 5e-4
    beside 2.5e-3)."""

    res_beta: Annotated[float, within(0.0, 1000.0)] = 5.0
    """RES: inverse temperature of the softmax over joint actions."""

    res_lambda: Annotated[float, within(0.0, 1000.0)] = 0.05
    """RES: weight of the squared distance between q_tot and the recorded return."""

    aux: Literal["none", "predict", "contrast"] = "none"
    """Auxiliary loss: predict the state from the message (eq. 6), or InfoNCE (eq. 7)."""

    aux_coef: Annotated[float, within(0.0, 1000.0)] = 0.1
    """Weight α of the auxiliary loss (eq. 8)."""

    aux_negatives: Annotated[int, between(1, 65_536)] = 20
    """InfoNCE: negatives M for each positive."""

    aux_temperature: Annotated[float, within(0.001, 1000.0)] = 0.07
    """InfoNCE: temperature κ."""

    teacher: str = ""
    """Battle: idqn or an opponent's file, whose actions are held up as an example
    (learner/teacher.py); empty learns without."""

    teacher_coef: Annotated[float, within(0.0, 1000.0)] = 1.0
    """Weight of the teacher's loss at the beginning; it falls linearly to 0."""

    teacher_steps: Annotated[int, between(1, MAX_STEPS)] = 100_000
    """Environment steps over which the teacher's weight falls."""

    teacher_margin: Annotated[float, within(0.0, 1000.0)] = 0.2
    """By how much the teacher's action is to exceed all others, in scaled rewards."""

    timeout_is_terminal: bool = False
    """Papers' habit: do not bootstrap after a time-out."""

    dead_in_loss: bool = False
    """Papers' habit: dead agents stay in the TD loss until the episode ends."""

    publish: PublishMode = "dense"
    """What a parameter version carries: every weight; the changed entries against a base; or only
    the weights that the topology has, and which these are when it has moved."""

    publish_dtype: PublishDtype = "float32"
    """What agents' weights are rounded to; the learner's own stay as they are."""

    publish_period: Annotated[int, between(1, MAX_UPDATES)] = 4
    """Gradient steps between published versions."""

    checkpoint_period_s: Annotated[float, within(0.01, 86_400.0)] = 30.0
    """Seconds between checkpoints."""

    journal_episodes: Annotated[int, between(0, MAX_EPISODES)] = 256
    """Newest episodes kept on disk, so that a killed learner gets them back; in Battle with 100
    agents one takes 4 MB. 0 keeps none: what the learner has acknowledged is in its memory only."""

    def __post_init__(self) -> None:
        check_ranges(self, "learner")
        _require(
            self.n_step == 1 or self.td_lambda == 0.0,
            "learner.n_step above 1 and learner.td_lambda are two answers to one question: give "
            f"one, got {self.n_step} and {self.td_lambda}",
        )
        _require(
            self.algorithm not in ("wqmix", "res") or self.operator == "mellowmax" or self.double_q,
            f"learner.algorithm {self.algorithm} values the actions that the online network "
            "chooses: give learner.double_q true, or learner.operator mellowmax",
        )
        _require(
            self.algorithm != "facmac" or self.operator == "max",
            "learner.algorithm facmac values what its policy does: learner.operator has no say, "
            f"give max, got {self.operator}",
        )
        _require(
            self.online_episodes <= self.replay_episodes,
            "learner.online_episodes are the newest of the replay's, so at most "
            f"learner.replay_episodes, got {self.online_episodes} of {self.replay_episodes}",
        )
        _require(
            self.online_episodes == 0 or self.online_rows <= self.online_episodes,
            "learner.online_episodes must hold the share of a batch that comes from them, "
            f"{self.online_rows} rows, got {self.online_episodes}",
        )
        _require(
            self.window == 0 or self.burn_in < self.window,
            f"learner.burn_in must be shorter than learner.window, got {self.burn_in} of "
            f"{self.window}",
        )
        _require(
            self.ranks <= min(self.batch_size, self.learning_starts),
            "learner.ranks share a batch by its episodes: at most learner.batch_size and "
            f"learner.learning_starts, got {self.ranks}",
        )
        _require(
            self.ranks == 1 or self.aux != "contrast",
            "learner.aux contrast draws its negatives from the whole batch: give learner.ranks 1",
        )
        _require(
            self.learning_starts <= self.replay_episodes,
            "learner.learning_starts must fit learner.replay_episodes, got "
            f"{self.learning_starts} of {self.replay_episodes}",
        )

    @property
    def online_rows(self) -> int:
        """Rows of a batch that come from the newest episodes."""
        return round(self.batch_size * self.online_share) if self.online_episodes else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    interval_steps: Annotated[int, between(0, MAX_STEPS)] = 20_000
    """Environment steps between evaluations during training; 0 evaluates only at the end."""

    episodes: Annotated[int, between(0, MAX_EPISODES)] = 20
    """Greedy episodes of each evaluation; 0 switches evaluations off."""

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation")


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    transport: Annotated[Transport, _short("transport")] = "ipc"
    """ipc on one machine, or tcp over loopback (the code path of separate hosts)."""

    metrics_port: Annotated[int, _short("metrics-port"), between(0, MAX_PORT)] = 9464
    """Port of http://127.0.0.1:PORT/metrics; 0 switches the exporter off."""

    metrics_address: Annotated[str, _short("metrics-address")] = "127.0.0.1"
    """Address of /metrics; loopback unless told otherwise."""

    metrics_per_edge: Annotated[bool, _short("metrics-per-edge")] = False
    """Export series for every edge as well (agents × offsets of each family), up to 20 000 edges
    a host."""

    metrics_linger_s: Annotated[float, within(0.0, 600.0)] = 0.0
    """Seconds that /metrics stays up after a run, for a last scrape."""

    start_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 120.0
    """Seconds until every process must have reported ready; for each agent there is a fifth of a
    second more."""

    step_timeout_s: Annotated[float, within(0.01, 3600.0)] = 20.0
    """Seconds the world waits for an agent's action before it plays a no-op for it."""

    silent_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 60.0
    """Seconds without a word after which a process counts as hung and is ended like a dead one."""

    host_timeout_s: Annotated[float, within(1.0, 3600.0)] = 5.0
    """Seconds without a word after which another host's agents count as gone, until it is back."""

    head_timeout_s: Annotated[float, within(1.0, 86_400.0)] = 30.0
    """Seconds without a word from the head after which another host counts the run as over."""

    hosts: Annotated[str, _short("hosts")] = ""
    """Hosts file of a run across machines (docs/deploy.md); empty keeps everything on this one."""

    bundles: Annotated[str, _short("bundles")] = "bundles"
    """Folder of the hosts' keys; made on the first run with these hosts."""

    telemetry: bool = True
    """Count bytes, packets and latencies, read memory and serve /metrics; off measures what that
    costs. Heartbeats, steps and open edges are counted all the same."""

    profile: bool = False
    """Agents measure where their cpu time goes and leave it in logs/profile-AGENT.json."""

    pin: Literal["auto", "on", "off"] = "auto"
    """Keep every agent on one core, in turn; auto does so where they need all cores and nobody
    else does: on one machine, without a learner, with at least twice as many agents as cores."""

    nice: Annotated[int, between(0, 19)] = 5
    """Niceness of agents and world beside a learner: among a hundred of them it would get one
    turn in a hundred."""

    max_restarts: Annotated[int, between(0, 10**6)] = 20
    """Restarts of one agent before the run is given up."""

    runs_dir: str = "runs"
    """Folder under which each run gets its own."""

    def __post_init__(self) -> None:
        check_ranges(self, "runtime")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    num_agents: Annotated[int, tyro.conf.arg(name="agents"), between(2, MAX_AGENTS)] = 100
    """Number of agents N; each is an operating-system process of its own."""

    steps: Annotated[int, between(1, MAX_STEPS)] = 1_000_000
    """Environment steps to train for, summed over the copies."""

    seed: Annotated[int, between(0, MAX_SEED)] = 0
    """Root seed; every process and every episode derives its own from it."""

    comm: Comm = "sops"
    """sops: gated messages over the exponential graph; none: agents that never speak."""

    policy: str = ""
    """Policy file to begin with, or the word shipped for the one that comes with the environment;
    empty begins untrained. With a policy exploration, gate temperature and opponents begin where
    their schedules end."""

    resume: str = ""
    """Folder of an earlier run to continue, for example runs/20260101-120000-battle. Each time
    begins a new life of the run, whose random draws are not those of an earlier one."""

    life: Annotated[int, between(0, MAX_SEED), tyro.conf.Fixed, tyro.conf.Suppress] = 0
    """How often this run has been resumed. The launcher counts it, for the random streams."""

    env: EnvConfig = field(default_factory=EnvConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    sparse: SparseConfig = field(default_factory=SparseConfig)
    agents: AgentsConfig = field(default_factory=AgentsConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def start_patience_s(self) -> float:
        """Seconds until everything must be ready: the more agents, the longer a start takes."""
        return self.runtime.start_timeout_s + START_S_PER_AGENT * self.num_agents
