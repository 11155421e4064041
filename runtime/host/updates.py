"""A host's part in replacing a deployed policy in place, without its sockets and processes.

    PolicyOffer, UpdateOrder, time -> Updates -> what to answer, and which version agents take up

        idle ── offer ──▶ offered ── swap ──▶ swapped ── keep ──▶ kept ── done ──▶ idle
                             └──── back, or silence of the pusher ────┘ (the version before)

Nothing is written to where a restart looks for it before all hosts have acted by the new version
for a while and are to keep it: a host that starts again in between comes up with the version
before, and the pusher takes the others back to it. Each host goes back by itself if it hears
nothing more. Only a word that is lost between hosts that have been told to keep the version and
others that have not can leave them with different ones; a second push of it mends that.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from agents.policy import PolicyFile, PolicyFileError, checksum, differences
from agents.rehearsal import stays_finite
from agents.rules import AgentRules
from runtime.deployment.update_file import UpdateFile, deployment_of
from runtime.net import ticks, wire

logger = logging.getLogger(__name__)

FIGURES = (
    "agents_ready",
    "agents_reporting",
    "policy_version_min",
    "policy_version_max",
    "restarts",
    "agent_steps",
    "ticks_missed",
)
"""Of `Node.status`, what a pusher judges a host by."""
_FARTHEST_S = 60.0
"""Seconds until a swap at most: more says that clocks disagree."""


@dataclass(frozen=True, slots=True, eq=False)
class TakeUp:
    """The host's agents are to act by this version."""

    policy: PolicyFile
    tick: int | None
    """From this tick of the wall clock on; None: from their next observation on."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an answer depends on beside what was said."""

    now_s: float
    """Monotonic."""
    wall_s: float
    """Unix time."""
    figures: Mapping[str, float]


class Updates:
    """Which version this host has, and which one it is about to have."""

    def __init__(
        self,
        rules: AgentRules,
        agents: int,
        rate_hz: float,
        deployment: str,
        policy: PolicyFile,
        file: UpdateFile,
    ) -> None:
        """Begin with `policy` in use.

        Args:
            agents: how many this host runs.
            rate_hz: ticks a second; 0.0: every observation is a tick.
        """
        self._rules, self._agents, self._rate_hz = rules, agents, rate_hz
        self._deployment = deployment
        self._file = file
        self._in_use: PolicyFile = policy
        self._before: PolicyFile = policy
        self._offered: PolicyFile | None = None
        self._phase = "idle"
        self._push = 0
        self._lease_s = 0.0
        self._heard_s = 0.0
        self._tried = {policy.version: checksum(policy.flat)}
        """Checksum of every version that agents of this life have had."""
        self.updates = 0
        """Versions that agents were handed to take up in place."""
        self.rollbacks = 0
        """Those of them that were taken back."""

    @property
    def version(self) -> int:
        """In use by this host."""
        return self._in_use.version

    def handle(
        self, packet: wire.PolicyOffer | wire.UpdateOrder, moment: Moment
    ) -> tuple[wire.UpdateState, TakeUp | None]:
        """Do what a pusher asks for, once, however often it asks."""
        take_up = None
        if self._phase != "idle" and packet.push != self._push:
            refusal = f"another update is under way here (version {self._subject.version})"
        elif isinstance(packet, wire.PolicyOffer):
            refusal = self._offer(packet, moment)
        else:
            refusal, take_up = self._obey(packet, moment)
        if packet.push == self._push:
            self._heard_s = moment.now_s
        state = wire.UpdateState(
            packet.push, packet.sequence, self._phase, self.version, refusal, moment.figures
        )
        return state, take_up

    def due(self, now_s: float) -> TakeUp | None:
        """Go back if the pusher has fallen silent; what has been kept stays."""
        if self._phase == "idle" or now_s - self._heard_s <= self._lease_s:
            return None
        if self._phase == "kept":
            self._phase = "idle"
            return None
        return self._go_back(f"nothing was heard of it for {self._lease_s:.0f} s")

    @property
    def _subject(self) -> PolicyFile:
        return self._in_use if self._offered is None else self._offered

    # --- offered ----------------------------------------------------------------------------------

    def _offer(self, packet: wire.PolicyOffer, moment: Moment) -> str:
        if self._phase != "idle":  # asked again
            return ""
        try:
            policy = self._file.stage(packet.content.tobytes())
        except PolicyFileError as error:
            refusal = str(error)
        except OSError as error:
            refusal = f"the version cannot be kept for a restart ({error.strerror or error})"
        else:
            refusal = self._refusal_of(policy, moment)
            if not refusal:
                self._offered, self._phase = policy, "offered"
                self._push, self._lease_s = packet.push, packet.lease_s
                logger.info("policy version %d is here, %d acts", policy.version, self.version)
                return ""
        self._drop()
        logger.warning("a policy is refused, version %d stays: %s", self.version, refusal)
        return refusal

    def _refusal_of(self, policy: PolicyFile, moment: Moment) -> str:
        """Why agents cannot go over to a policy; empty: they can."""
        spec, version, crc32 = self._rules.spec, policy.version, checksum(policy.flat)
        if deployment_of(policy) != self._deployment:
            return "it was pushed to another deployment"
        if policy.spec != spec:
            return "it does not fit: " + "; ".join(
                f"{name} is {found}, deployed is {deployed}"
                for name, found, deployed in differences(policy.spec, spec)
            )
        if version < self.version or (
            version == self.version and crc32 != checksum(self._in_use.flat)
        ):
            return (
                f"version {version} is not newer than {self.version}, which is in use: push it "
                "under a greater number (--as-version)"
            )
        if self._tried.get(version, crc32) != crc32:
            return (
                f"version {version} was another policy here before it was taken back: push this "
                "one under a greater number (--as-version)"
            )
        if not stays_finite(spec, policy.flat, self._rules.num_agents):
            return "its values do not stay finite"
        if (ready := int(moment.figures["agents_ready"])) < self._agents:
            return f"{ready} of {self._agents} agents are up"
        return ""

    # --- orders -----------------------------------------------------------------------------------

    def _obey(self, order: wire.UpdateOrder, moment: Moment) -> tuple[str, TakeUp | None]:
        match order.name, self._phase:
            case "swap", "offered":
                return self._swap(order, moment)
            case "keep", "swapped":
                return self._keep(), None
            case ("swap", "idle") | ("keep", "idle" | "offered"):
                return f"no update is under way here: version {self.version} is in use", None
            case "back", "offered" | "swapped" | "kept":
                return "", self._go_back("the pusher says so")
            case "done", "kept":
                self._phase = "idle"
                return "", None
            case _:  # look; and whatever has been done already
                return "", None

    def _swap(self, order: wire.UpdateOrder, moment: Moment) -> tuple[str, TakeUp | None]:
        assert self._offered is not None
        tick: int | None = None
        if self._rate_hz:
            now = int(moment.wall_s * self._rate_hz) % ticks.MODULUS
            ahead = ticks.ahead(order.tick, now)
            if not 0 < ahead <= _FARTHEST_S * self._rate_hz:
                return (
                    f"tick {order.tick} is {ahead} ticks ahead of this host's clock: do the hosts' "
                    "clocks agree?"
                ), None
            tick = order.tick
        policy, self._before = self._offered, self._in_use
        self._phase = "swapped"
        if policy.version == self.version:
            return "", None
        self._in_use = policy
        self.updates += 1
        self._tried[policy.version] = checksum(policy.flat)
        logger.info(
            "policy version %d takes the place of %d %s",
            policy.version,
            self._before.version,
            "with the next observation" if tick is None else f"from tick {tick} on",
        )
        return "", TakeUp(policy, tick)

    def _keep(self) -> str:
        try:
            self._file.keep()
        except OSError as error:
            return f"the version cannot be kept for a restart ({error.strerror or error})"
        self._phase, self._offered = "kept", None
        logger.info("policy version %d is kept", self.version)
        return ""

    def _go_back(self, reason: str) -> TakeUp | None:
        """Have the version before in use, and begin with it after a restart."""
        phase, self._phase = self._phase, "idle"
        self._drop()
        if phase == "offered" or self._in_use is self._before:
            return None
        given_up, self._in_use = self._in_use, self._before
        self.rollbacks += 1
        if phase == "kept":
            try:
                self._file.keep_instead(self._before)
            except OSError as error:
                logger.error(
                    "after a restart version %d would be in use (%s)", given_up.version, error
                )
        logger.warning(
            "policy version %d is taken back, %d is in use again: %s",
            given_up.version,
            self._in_use.version,
            reason,
        )
        return TakeUp(self._in_use, None)

    def _drop(self) -> None:
        self._offered = None
        try:
            self._file.drop()
        except OSError as error:
            logger.warning("an offered version could not be removed: %s", error)
