"""How the learner trains."""

from dataclasses import dataclass
from typing import Annotated, Literal

from configs import extensions
from configs.ranges import between, check_ranges, within
from configs.schema.choices import Precision, PublishDtype, PublishMode
from configs.schema.fields import require, short
from configs.schema.limits import (
    MAX_AGENTS,
    MAX_CYCLES,
    MAX_EPISODES,
    MAX_STEPS,
    MAX_THREADS,
    MAX_UPDATES,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerConfig:
    algorithm: Annotated[str, short("algorithm")] = "iql"
    """iql: individual rewards, no mixer; vdn, qmix: team reward (mean of the individual ones);
    wqmix: QMIX weighted optimistically, with targets from a central critic without restriction;
    res: QMIX with a softmax over joint actions in its targets and a pull towards returns;
    facmac: policies that climb a critic whose agents' values are mixed as in QMIX.
    Others: a file's name in learner/algorithms/, or package.module:TheClass."""

    options: Annotated[str, short("algorithm.options")] = ""
    """What the algorithm itself takes: name=value,name=value."""

    device: Annotated[Literal["auto", "cpu", "cuda"], short("device")] = "auto"
    """Where the learner trains; auto takes CUDA if there is one."""

    also_agents: Annotated[tuple[int, ...], short("also-agents"), between(2, MAX_AGENTS)] = ()
    """Further numbers of agents that the policy is trained for at the same time. The learner plays
    these populations itself, an episode for each that the run's agents play, and every update takes
    a batch of each (learner/population.py)."""

    threads: Annotated[int, between(0, MAX_THREADS)] = 0
    """Torch threads of the learner; 0 takes half of the cores that the run may use (affinity and
    cgroup quota), the agents need the others."""

    ranks: Annotated[int, between(1, 64)] = 1
    """Processes that share each update (DistributedDataParallel under torchrun's agent), on GPUs
    one each; torch threads are divided among them."""

    precision: Precision = "float32"
    """To what the learner rounds the factors of the policy's matrix products, whose sums stay
    float32: less to compute and to read on a GPU. tf32: 10 bits of fraction, on CUDA only, GRU and
    mixers included; bfloat16: 7 bits, in encoder, heads and what is said. On a CPU bfloat16 shows
    what a GPU would learn, and saves nothing."""

    prefetch: Literal["auto", "on", "off"] = "auto"
    """Gather the next update's batch while this one is computed, if it is owed already: it misses
    the episodes that arrive meanwhile. auto: on CUDA; on a CPU it would compete with the agents."""

    cuda_graph: Literal["auto", "on", "off"] = "auto"
    """On CUDA: record an update once for each shape of batch and replay it, so that the GPU does
    not wait for Python. For small windows; give learner.window, or hardly a shape comes twice.
    auto: off, until it has been measured on a GPU (docs/results/gpu.md)."""

    pretrained: Literal["frozen", "tuned"] = "frozen"
    """Whether tensors that --pretrained has brought stay as they are, or are trained with the
    policy."""

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

    average_rate: Annotated[float, within(1e-6, 1.0)] = 1.0
    """Share of the newest parameters in the average that agents act with, after each gradient step:
    0.005 averages over about 200 steps; 1 gives them the newest alone. Neighbouring versions of a
    policy may differ widely in what they win, their average less."""

    grad_clip: Annotated[float, within(0.0, 1e6)] = 10.0
    """Largest norm of the gradient over all parameters; 0 sets no limit."""

    reward_scale: Annotated[float, within(1e-6, 1e6)] = 1.0
    """Factor on rewards inside the learner only; reported returns are never scaled."""

    reward_clip: Annotated[float, within(0.0, 1e6)] = 0.0
    """Largest reward, before scaling, that counts inside the learner; 0 lets all count. In Battle a
    kill earns fifty times a hit, and whose blow it is that kills is chance."""

    death_cost: Annotated[float, within(0.0, 1e6)] = 0.0
    """What its own death costs an agent inside the learner, after clipping and before scaling. In
    Battle rewards hardly tell a kill that cost a life from one that did not."""

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
    (learner/opponents/teacher.py); empty learns without."""

    teacher_coef: Annotated[float, within(0.0, 1000.0)] = 1.0
    """Weight of the teacher's loss at the beginning; it falls linearly to teacher_coef_end."""

    teacher_coef_end: Annotated[float, within(0.0, 1000.0)] = 0.0
    """Weight at which it stays; 0 takes the teacher away."""

    teacher_steps: Annotated[int, between(1, MAX_STEPS)] = 100_000
    """Environment steps over which the teacher's weight falls."""

    teacher_margin: Annotated[float, within(0.0, 1000.0)] = 0.2
    """By how much the teacher's action is to exceed all others, in scaled rewards; policies with
    probabilities learn its log-probability instead."""

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
        extensions.address(extensions.ALGORITHM, self.algorithm)  # raises where there is none
        require(
            self.n_step == 1 or self.td_lambda == 0.0,
            "learner.n_step above 1 and learner.td_lambda are two answers to one question: give "
            f"one, got {self.n_step} and {self.td_lambda}",
        )
        require(
            self.online_episodes <= self.replay_episodes,
            "learner.online_episodes are the newest of the replay's, so at most "
            f"learner.replay_episodes, got {self.online_episodes} of {self.replay_episodes}",
        )
        require(
            self.online_episodes == 0 or self.online_rows <= self.online_episodes,
            "learner.online_episodes must hold the share of a batch that comes from them, "
            f"{self.online_rows} rows, got {self.online_episodes}",
        )
        require(
            self.window == 0 or self.burn_in < self.window,
            f"learner.burn_in must be shorter than learner.window, got {self.burn_in} of "
            f"{self.window}",
        )
        require(
            self.ranks <= min(self.batch_size, self.learning_starts),
            "learner.ranks share a batch by its episodes: at most learner.batch_size and "
            f"learner.learning_starts, got {self.ranks}",
        )
        require(
            self.cuda_graph != "on" or self.device != "cpu",
            "learner.cuda_graph on needs a GPU: give learner.device cuda or auto, or "
            "learner.cuda_graph off",
        )
        require(
            self.cuda_graph != "on" or self.ranks == 1,
            "learner.cuda_graph on records the update of one process, and learner.ranks share one: "
            f"give learner.ranks 1 or learner.cuda_graph off, got {self.ranks} ranks",
        )
        require(
            len(set(self.also_agents)) == len(self.also_agents),
            f"learner.also_agents names a number twice: {self.also_agents}",
        )
        require(
            not self.also_agents or (self.ranks == 1 and self.aux != "contrast"),
            "learner.also_agents trains with learner.ranks 1 and without learner.aux contrast",
        )
        require(
            self.ranks == 1 or self.aux != "contrast",
            "learner.aux contrast draws its negatives from the whole batch: give learner.ranks 1",
        )
        require(
            self.learning_starts <= self.replay_episodes,
            "learner.learning_starts must fit learner.replay_episodes, got "
            f"{self.learning_starts} of {self.replay_episodes}",
        )

    @property
    def online_rows(self) -> int:
        """Rows of a batch that come from the newest episodes."""
        return round(self.batch_size * self.online_share) if self.online_episodes else 0
