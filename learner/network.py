"""The policy as a torch module; `agents.version` is the same function in numpy.

    observation -> network -> hidden -> scheme -> messages -> Q head -> q-values

Its parameters are those of `PolicySpec.layout`, one to one and in the same order, whatever network
(learner/networks/) and scheme (learner/comm/) it has. `learner.comm.unroll` puts the stages in
order over time.

Dimension key: T = time, B = batch, N = agents, D = observation features, H = hidden, M = message, A
= actions.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from agents.found import network_of, scheme_of
from agents.policy import PolicySpec, views
from configs import extensions
from configs.arrays import FloatArray
from configs.extensions import ExtensionError
from learner.comm.base import SchemeTwin
from learner.comm.gates import GateRule
from learner.kernels.dense import head
from learner.kernels.projections import Layer, projections
from learner.networks.base import NetworkTwin

_TwinT = TypeVar("_TwinT", NetworkTwin, SchemeTwin)


class PolicyNetwork(nn.Module):
    """A trainable policy for N agents that share parameters, or several of them (`each`)."""

    encoding: NetworkTwin
    scheme: SchemeTwin
    q_hidden: nn.Linear
    q_out: nn.Linear

    def __init__(self, spec: PolicySpec, num_agents: int) -> None:
        super().__init__()
        self.spec = spec
        self.num_agents = num_agents
        self._of_other_sizes: dict[int, PolicyNetwork] = {}
        self._each = nn.ModuleList()
        if spec.policies > 1:
            several = [PolicyNetwork(spec.one, num_agents) for _ in range(spec.policies)]
            self._each.extend(several)
            self.encoding, self.scheme = several[0].encoding, several[0].scheme
            return
        self.encoding = _network_twin(spec, num_agents)
        self.scheme = _scheme_twin(spec, num_agents)
        layers: dict[str, nn.Module] = {
            **self.encoding.layers,
            **self.scheme.layers,
            "q_hidden": nn.Linear(spec.hidden + spec.context, spec.hidden),
            "q_out": nn.Linear(spec.hidden, spec.heads * spec.outputs),
        }
        # Children in the order of the layout: optimiser and checkpoints go by it.
        for layer in dict.fromkeys(name.partition(".")[0] for name, _ in spec.layout):
            self.add_module(layer, layers[layer])

    @property
    def each(self) -> "Sequence[PolicyNetwork]":
        """Networks that share nothing, of which every agent acts by one; empty: all share this."""
        return [one for one in self._each if isinstance(one, PolicyNetwork)]

    def of_size(self, num_agents: int) -> "PolicyNetwork":
        """The same policy, with the very same parameters, for another number of agents."""
        if num_agents == self.num_agents:
            return self
        if num_agents not in self._of_other_sizes:
            other = PolicyNetwork(self.spec, num_agents)
            for path, parameter in self.named_parameters():
                where, _, name = path.rpartition(".")
                setattr(other.get_submodule(where), name, parameter)
            self._of_other_sizes[num_agents] = other
        return self._of_other_sizes[num_agents]

    def tensors(self) -> Mapping[str, nn.Parameter]:
        """The parameters by their names in the layout, in its order."""
        if self.each:
            return {
                f"{number}/{name}": parameter
                for number, one in enumerate(self.each)
                for name, parameter in one.tensors().items()
            }
        found = dict(self.named_parameters())
        names = {**self.encoding.names, **self.scheme.names}
        return {name: found[names.get(name, name)] for name, _ in self.spec.layout}

    @torch.no_grad()
    def load_flat(self, flat: FloatArray) -> None:
        """Take over a [P] vector in layout order.

        Raises:
            ValueError: the vector has another length than the spec.
        """
        parameters = self.tensors()
        for name, view in views(self.spec, flat).items():
            # A copy, because a vector that came over the wire is read-only.
            parameters[name].copy_(torch.tensor(view))

    def to_flat(self) -> FloatArray:
        """[P] a fresh vector in layout order."""
        flat = np.empty(self.spec.size, dtype=np.float32)
        parameters = self.tensors()
        for name, view in views(self.spec, flat).items():
            view[...] = parameters[name].detach().cpu().numpy()
        return flat

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # layers are children by their names

    # --- the stages of a step ---------------------------------------------------------------------

    def recur(self, observations_TBND: Tensor, hidden_BNH: Tensor) -> Tensor:
        """[T, B, N, H] hidden states of a sequence in one call: they do not depend on messages."""
        return self.encoding.recur(observations_TBND, hidden_BNH)

    def project(self, hidden: Tensor, rule: GateRule) -> tuple[Tensor, Sequence[Tensor]]:
        """All that depends on hidden states […, H] alone, for all steps at once: [..., H] what the
        Q head's hidden layer owes to them, and what the scheme reads of them.

        The head acts on a concatenation of the hidden state and the context, so its product splits,
        and this is the first half.
        """
        of_head: Layer = (self.q_hidden.weight[:, : self.spec.hidden], self.q_hidden.bias)
        # The head's stands second: gradients of h are added up in this order, which seeded runs
        # keep.
        reads = self.scheme.reads_of_hidden(rule)
        first, rest = reads[:1], reads[1:]
        made = projections(hidden, *first, of_head, *rest)
        return made[len(first)], (*made[: len(first)], *made[len(first) + 1 :])

    def q_values(self, q_part: Tensor, context: Tensor) -> Tensor:
        """[…, H], […, C] -> […, A] of all output layers.

        Args:
            context: the message before rounding, or what the scheme has the head read instead.
        """
        size = self.spec.hidden
        q = head(
            q_part.reshape(-1, size),
            context.reshape(-1, context.shape[-1]),
            self.q_hidden.weight[:, size:],
            self.q_out.weight,
            self.q_out.bias,
        )
        return q.view(*context.shape[:-1], -1)

    def own_outputs(self, q_TBNO: Tensor) -> Tensor:
        """[T, B, N, A] of all output layers' values [T, B, N, heads × A] those of each agent's own
        (agents/head.py).
        """
        heads = self.spec.heads
        if heads == 1:
            return q_TBNO
        agents_N = torch.arange(q_TBNO.shape[2], device=q_TBNO.device)
        by_layer = q_TBNO.view(*q_TBNO.shape[:-1], heads, -1)
        return by_layer[:, :, agents_N, agents_N % heads]

    def uses(self, rule: GateRule) -> dict[str, int]:
        """How often an agent's step needs those layers that it does not need exactly once."""
        return {**self.encoding.uses(), **self.scheme.uses(rule)}


def _network_twin(spec: PolicySpec, num_agents: int) -> NetworkTwin:
    return _twin(extensions.NETWORK, network_of(spec.network).twin, NetworkTwin)(spec, num_agents)


def _scheme_twin(spec: PolicySpec, num_agents: int) -> SchemeTwin:
    return _twin(extensions.SCHEME, scheme_of(spec.scheme).twin, SchemeTwin)(spec, num_agents)


def _twin(kind: extensions.Kind, where: str, base: type[_TwinT]) -> type[_TwinT]:
    if not where:
        raise ExtensionError(
            f"{kind.option}: this {kind.what} names no torch twin, so it cannot be trained"
        )
    found = extensions.load_address(kind, where)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ExtensionError(f"{kind.option}: {where} is no {base.__module__}.{base.__name__}")
    return found
