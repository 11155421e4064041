"""The body's side of the body protocol (docs/body.md): a reference client.

    sensors -> observation -> BodyClient ⇄ agent -> action -> actuators

    with BodyClient("ipc:///run/murmuration/body-3", agent=3, timeout_s=1.0) as body:
        action = body.act(observation, step=0, first=True)

It needs numpy, pyzmq and msgpack and nothing else of ours than the packets.
"""

import time
from types import TracebackType
from typing import Any, Self

import numpy as np
import zmq
from numpy.typing import NDArray

from runtime.net import wire
from runtime.net.errors import BodyError, WireFormatError

_GREET_PERIOD_S = 1.0
"""Silence after which an agent may have been started again, and does not know us."""


class BodyClient:
    """One body's connection to one agent; for one thread."""

    def __init__(
        self,
        endpoint: str,
        agent: int,
        timeout_s: float,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        """Connect, and learn what the agent takes and gives.

        Args:
            endpoint: where the agent waits for its body.
            timeout_s: patience here and in `act`.
            context: shared by several bodies of one process; else one of its own.

        Raises:
            BodyError: nobody answers in time, or another agent does.
        """
        self._endpoint, self._agent, self._timeout_s = endpoint, agent, timeout_s
        self._own_context: zmq.Context[zmq.Socket[bytes]] | None = None
        if context is None:
            context = self._own_context = zmq.Context()
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # what an absent agent has missed is of no use
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.SNDHWM, 16)
        self._socket.connect(endpoint)
        self._heard_s = time.monotonic()
        self._greeted_s = float("-inf")
        self.dropped = 0
        """Packets of the agent that were no packets of this protocol."""
        try:
            self._welcome = self._shake_hands()
        except BaseException:
            self.close()
            raise

    @property
    def observation_dim(self) -> int:
        return self._welcome.observation_dim

    @property
    def num_actions(self) -> int:
        """A; or how many real numbers make up an action."""
        return self._welcome.num_actions

    @property
    def rate_hz(self) -> float:
        """Ticks a second of the agent; 0.0 if every observation is one."""
        return self._welcome.rate_hz

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """For a zmq.Poller."""
        return self._socket

    def act(
        self, observation: NDArray[Any], *, step: int, first: bool = False, alive: bool = True
    ) -> int:
        """Send what is sensed and wait for what to do.

        Args:
            observation: [D] float32, float16 or uint8.
            step: counts up, modulo 2^32; all bodies number the same moment alike.
            first: whether it is the first of an episode; the agent forgets what went before.
            alive: whether there is an agent that could act.

        Raises:
            BodyError: no action in time, or one that is made up of real numbers.
            ValueError: the observation does not fit.
        """
        answer = self._answer(observation, step, first=first, alive=alive)
        if isinstance(answer, wire.BodyReals):
            raise BodyError(
                f"agent {self._agent} at {self._endpoint}: its actions are {len(answer.action)} "
                "real numbers, ask it by act_reals"
            )
        return answer.action

    def act_reals(
        self, observation: NDArray[Any], *, step: int, first: bool = False, alive: bool = True
    ) -> NDArray[np.float32]:
        """[n] as `act`, of an agent whose actions are made up of real numbers.

        Raises:
            BodyError: no action in time, or one that is chosen from a list.
            ValueError: the observation does not fit.
        """
        answer = self._answer(observation, step, first=first, alive=alive)
        if isinstance(answer, wire.BodyAction):
            raise BodyError(
                f"agent {self._agent} at {self._endpoint}: its actions are chosen from "
                f"{self.num_actions}, ask it by act"
            )
        return answer.action

    def _answer(
        self, observation: NDArray[Any], step: int, *, first: bool, alive: bool
    ) -> wire.BodyAction | wire.BodyReals:
        """The action that answers an observation."""
        deadline_s = time.monotonic() + self._timeout_s
        is_sent = self.send(observation, step=step, first=first, alive=alive)
        while (left_s := deadline_s - time.monotonic()) > 0.0:
            if not is_sent:
                is_sent = self.send(observation, step=step, first=first, alive=alive)
            # Wake up in between: the agent may have been started again since.
            patience_s = _GREET_PERIOD_S if is_sent else 0.02
            self._socket.poll(int(1000 * min(left_s, patience_s)) + 1)
            while (answer := self.receive()) is not None:
                if answer.step == step % (1 << 32):
                    return answer
            if is_sent and time.monotonic() - self._heard_s > _GREET_PERIOD_S:
                is_sent = False
        raise BodyError(
            f"agent {self._agent} at {self._endpoint}: no action for step {step} in "
            f"{self._timeout_s:g} s (is it running, and does nobody else play its body?)"
        )

    def send(
        self, observation: NDArray[Any], *, step: int, first: bool = False, alive: bool = True
    ) -> bool:
        """Send what is sensed and do not wait; False if the agent is not there or far behind.

        Raises:
            ValueError: the observation does not fit.
        """
        if observation.shape != (self.observation_dim,):
            raise ValueError(
                f"agent {self._agent} takes observations of {self.observation_dim} numbers, got "
                f"shape {observation.shape}"
            )
        if observation.dtype.name not in ("float32", "float16", "uint8"):
            raise ValueError(f"observations are float32, float16 or uint8, got {observation.dtype}")
        if not np.isfinite(observation).all():
            raise ValueError("an observation must be finite, this one holds NaN or infinity")
        self._greet_after_silence()
        flags = wire.ALIVE * alive | wire.FIRST * first
        row = observation.astype(observation.dtype.newbyteorder("<"))
        packet = wire.BodyObservation(step % (1 << 32), flags, time.monotonic_ns(), row)
        return self._send(packet)

    def receive(self) -> wire.BodyAction | wire.BodyReals | None:
        """An action, if one has arrived."""
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return None
            self._heard_s = time.monotonic()
            try:
                frame = b"".join(frames)
                packet = wire.decode(frame, wire.BodyAction, wire.BodyReals, wire.BodyWelcome)
            except WireFormatError:
                self.dropped += 1
                continue
            if isinstance(packet, wire.BodyAction | wire.BodyReals):
                return packet

    def close(self) -> None:
        self._socket.close()
        if self._own_context is not None:
            self._own_context.term()

    def _shake_hands(self) -> wire.BodyWelcome:
        deadline_s = time.monotonic() + self._timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0.0:
            if time.monotonic() - self._greeted_s > _GREET_PERIOD_S:
                self._greet()
            if not self._socket.poll(int(1000 * min(left_s, 0.02)) + 1):
                continue
            try:
                packet = wire.decode(self._socket.recv(), wire.BodyWelcome)
            except WireFormatError as error:
                raise BodyError(
                    f"{self._endpoint}: whoever answers is no agent ({error})"
                ) from error
            assert isinstance(packet, wire.BodyWelcome)
            if packet.agent != self._agent:
                raise BodyError(
                    f"{self._endpoint}: this is agent {packet.agent}, not agent {self._agent}"
                )
            return packet
        raise BodyError(
            f"agent {self._agent} at {self._endpoint}: no answer in {self._timeout_s:g} s "
            "(is its node running?)"
        )

    def _greet(self) -> None:
        if self._send(wire.BodyHello(self._agent)):
            self._greeted_s = time.monotonic()

    def _greet_after_silence(self) -> None:
        now_s = time.monotonic()
        if now_s - max(self._heard_s, self._greeted_s) > _GREET_PERIOD_S:
            self._greet()

    def _send(self, packet: wire.Packet) -> bool:
        try:
            self._socket.send(wire.encode(packet), zmq.NOBLOCK)
        except zmq.Again:
            # It may be gone; whoever is there next does not know us.
            self._heard_s = self._greeted_s = float("-inf")
            return False
        return True
