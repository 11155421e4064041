"""NVIF: what neighbours saw and knew flows from agent to agent, and is compressed to a latent state
(Neighboring Variational Information Flow; equations 9 to 12).

    observation -> code o ──────────────────────────────────────────────┐
    tokens (o_j, h_j, d_j) of the agent itself and of its neighbours:   ├-> message (o, h', degree)
      phi = relu(W_o Σ o_j / sqrt(d_i d_j))                             │
      psi = relu(W_h Σ h_j / sqrt(d_i d_j))    h' = GRU(phi, psi) ──────┘
                                               mean of the latent state = W h' + b -> Q head

The sums are the graph convolution D^-1/2 (G + I) D^-1/2, done by each agent from what it has heard:
degrees travel with the messages, and d counts the agent itself. Nothing here reads the policy's
hidden state, so these parameters can be trained before there is a policy (learner/pretrain.py).

What is ours:

    one step later   an agent has what its neighbours said in the step before, and its own token is
                     what it said itself then. In the paper exchange and action share a step.
    one layer        each further graph convolution would take another exchange in the same step.
                     What is further away comes through h, one neighbour farther in each step.
    sizes            the paper gives none: see `Options`.

In execution the latent state is its mean; samples are for pre-training.

Dimension key: E = copies, T = 1 + K tokens (own first), D = observation features, F = code, G =
state h, M = F + G + 1 numbers of a message, L = latent state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from agents.comm.base import Heard
from agents.comm.everybody import Everybody
from agents.dead_units import shrink_relu
from agents.layers import Layout, columns, draw_uniform
from agents.networks.gru import GruMemory
from configs.arrays import FloatArray
from configs.ranges import between, check_ranges
from configs.schema import NetworkConfig

if TYPE_CHECKING:
    from agents.policy import PolicySpec

LARGEST = 65504.0
"""No entry of a message is larger: codes and states are linear or rectified, and this is what
float16 holds."""
_SIZE = between(1, 4096)
_ZERO = np.float32(0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    encoder: Annotated[int, _SIZE] = 128
    """Hidden units between an observation and its code."""
    code: Annotated[int, _SIZE] = 64
    """Numbers F of an observation's code."""
    flow: Annotated[int, _SIZE] = 64
    """Units of the flow of codes. The flow of states has as many units as a state."""
    state: Annotated[int, _SIZE] = 64
    """Numbers G of the state that agents hand on."""
    latent: Annotated[int, _SIZE] = 32
    """Numbers L of the latent state, which the Q head reads."""
    neighbours: bool = False
    """Exchange with the neighbours of each step, which is NVIF; else with everybody, which is the
    paper's Fully-VIF."""

    def __post_init__(self) -> None:
        check_ranges(self, "--comm.options")


class Nvif(Everybody):
    """One version of it, ready to run."""

    Options = Options
    twin = "learner.comm.nvif:NvifTwin"
    pretrainer: ClassVar[str] = "learner.pretraining.options:PretrainOptions"
    largest = LARGEST
    hidden_readers = ()
    counts_edges = True

    def __init__(
        self, spec: "PolicySpec", tensors: Mapping[str, FloatArray], num_agents: int
    ) -> None:
        options: Options = spec.scheme_opts()
        self._encoder, self._encoder_bias = _linear(tensors, "code_hidden")
        self._code, self._code_bias = _linear(tensors, "code")
        self._flow_codes = columns(tensors["flow_code.weight"])
        self._flow_states = columns(tensors["flow_state.weight"])
        gru = GruMemory(tensors, "state")
        self._step, (self._from_state, self._from_state_bias) = gru.step, gru.read
        self._latent, self._latent_bias = _linear(tensors, "latent")
        self._codes = slice(0, options.code)
        self._states = slice(options.code, options.code + options.state)

    @classmethod
    def layout(cls, spec: "PolicySpec") -> Layout:
        options: Options = spec.scheme_opts()
        return (
            ("code_hidden.weight", (options.encoder, spec.observation_dim)),
            ("code_hidden.bias", (options.encoder,)),
            ("code.weight", (options.code, options.encoder)),
            ("code.bias", (options.code,)),
            ("flow_code.weight", (options.flow, options.code)),
            ("flow_state.weight", (options.state, options.state)),
            *GruMemory.layout(options.flow, options.state, "state"),
            ("latent.weight", (options.latent, options.state)),
            ("latent.bias", (options.latent,)),
        )

    @classmethod
    def pretrained_layout(cls, spec: "PolicySpec") -> Layout:
        return cls.layout(spec)

    @classmethod
    def draw(
        cls,
        spec: "PolicySpec",
        name: str,
        tensors: Mapping[str, FloatArray],
        rng: np.random.Generator,
    ) -> None:
        state: int = spec.scheme_opts().state
        draw_uniform(name, tensors, rng, state if name.startswith("state.") else 0)

    @classmethod
    def shrink(cls, living: dict[str, FloatArray]) -> None:
        shrink_relu(living, "code_hidden", "code")

    @classmethod
    def message_size(cls, network: NetworkConfig, options: Any) -> int:
        return options.code + options.state + 1

    @classmethod
    def context_of(cls, spec: "PolicySpec") -> int:
        options: Options = spec.scheme_opts()
        return options.latent

    def message(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        assert heard.tokens_ETM is not None, "its edges are open"
        assert heard.open_EK is not None, "it counts its edges"
        # One product for codes and states: their sums are weighed alike.
        flown_EM = (_scale(heard)[:, None] @ heard.tokens_ETM)[:, 0]
        phi_EF = np.maximum(flown_EM[:, self._codes] @ self._flow_codes, _ZERO)
        psi_EG = np.maximum(flown_EM[:, self._states] @ self._flow_states, _ZERO)
        from_state_EG = psi_EG @ self._from_state
        from_state_EG += self._from_state_bias

        message_EM: FloatArray = np.empty(heard.own_EM.shape, dtype=np.float32)
        message_EM[:, self._codes] = self._code_of(heard.observation_ED)
        message_EM[:, self._states] = self._step(phi_EF, psi_EG, from_state_EG)
        message_EM[:, -1] = 1.0 + heard.open_EK.sum(axis=1)
        return message_EM.clip(-LARGEST, LARGEST, out=message_EM)

    def _code_of(self, observation_ED: FloatArray) -> FloatArray:
        """[E, F]"""
        hidden_EH: FloatArray = observation_ED @ self._encoder
        hidden_EH += self._encoder_bias
        np.maximum(hidden_EH, _ZERO, out=hidden_EH)
        code_EF: FloatArray = hidden_EH @ self._code
        code_EF += self._code_bias
        return code_EF

    def context(self, parts_EP: FloatArray, heard: Heard, message_EM: FloatArray) -> FloatArray:
        return message_EM[:, self._states] @ self._latent + self._latent_bias

    def weights(self, parts_EP: FloatArray, heard: Heard) -> FloatArray:
        """[E, T] each token's share of the sums; the own token's is 1 where nobody has spoken."""
        shares_ET = _scale(heard)
        totals_E1 = shares_ET.sum(axis=1, keepdims=True)
        silent_E = totals_E1[:, 0] == _ZERO
        shares_ET[silent_E, 0] = totals_E1[silent_E] = 1.0
        shares_ET /= totals_E1
        return shares_ET


def _scale(heard: Heard) -> FloatArray:
    """[E, T] 1 / sqrt(d_i d_j) of the tokens that are present. Where an episode begins nobody has
    said anything, and the own token, all zeros, counts nothing.
    """
    assert heard.tokens_ETM is not None
    degrees_ET = heard.tokens_ETM[:, :, -1]
    said_ET = degrees_ET >= 1.0
    if heard.present_ET is not None:
        said_ET &= heard.present_ET
    scale_ET = np.maximum(degrees_ET, np.float32(1.0)) ** np.float32(-0.5)
    scale_ET[~said_ET] = 0.0
    return scale_ET[:, :1] * scale_ET


def _linear(tensors: Mapping[str, FloatArray], layer: str) -> tuple[FloatArray, FloatArray]:
    return columns(tensors[f"{layer}.weight"]), tensors[f"{layer}.bias"]


SCHEME = Nvif
