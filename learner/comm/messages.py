"""The recurrence over messages, all steps in one function whose gradient is written by hand.

    own last message, those of the in-neighbours whose edge is open -> attention -> next message

For a receiver with the tokens 0 (its own last message) and k (that of agent i - 2^k):

    l_k = q · m_k                  w = softmax over own + open tokens of l + log C     (equation 5)
    m'  = tanh(p + W sum w_k m_k)  p: what the message owes to the agent's own state

and m', rounded as on the wire, is what everybody hears at the next step. The query has been through
the transposed key matrix, q · (W_k m) = (W_k^T q) · m: a token is nothing but its message, and no
keys are made step by step.

A token is a row number: entry (r, 0) of the table is r itself and entry (r, 1 + k) the row of the
same episode that is 2^k agents back. Weighted sums of rows are then one call (`_mixed`, what an
embedding bag does), and so is the gradient towards the senders, which is a weighted sum over those
who heard. Nothing is scattered, nothing of size N × N is built, and a step is a dozen calls however
many neighbours there are. With twenty agents calls are what a step costs; with a hundred the bag
reads each row where it lies, where K slices of a doubled buffer took three times as long.

Every gate is 0 or 1, but dw/dC is what trains the straight-through gate, and it is wanted for
closed edges as well. A closed token may have a larger logit than all open ones; its exp is cut at
exp(0), so that it pulls no harder than the loudest open one.

Dimension key: T = time, B = batch, N = agents, R = B × N rows, K = offsets, J = 1 + K tokens,
M = message.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from learner.kernels.tanh import tanh_


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """Whom R = B × N receivers hear, and who hears R senders."""

    shape: tuple[int, int]
    """R, J of the tables below, which are flat."""
    heard: Tensor
    """Row of token j of receiver r."""
    hearers: Tensor
    """Row of the receiver of which sender r is token j."""
    seats: Tensor
    """Where in a table of receivers the entry of that receiver and token is."""
    begins_R: Tensor
    """Where the entries of each row begin in a table."""
    row_of: Tensor
    """Row that each entry of a table belongs to."""


@lru_cache(maxsize=16)
def _tokens(batch: int, agents: int, offsets: tuple[int, ...], device: torch.device) -> _Tokens:
    shifts_J = torch.tensor([0, *offsets], device=device)
    agents_N1 = torch.arange(agents, device=device).unsqueeze(1)
    first_B11 = (torch.arange(batch, device=device) * agents).view(-1, 1, 1)
    rows, tokens = batch * agents, 1 + len(offsets)

    def table(agents_NJ: Tensor) -> Tensor:
        return (first_B11 + agents_NJ % agents).view(rows, tokens)

    hearers_RJ = table(agents_N1 + shifts_J)
    rows_R = torch.arange(rows, device=device)
    return _Tokens(
        shape=(rows, tokens),
        heard=table(agents_N1 - shifts_J).view(-1),
        hearers=hearers_RJ.view(-1),
        seats=(hearers_RJ * tokens + torch.arange(tokens, device=device)).view(-1),
        begins_R=rows_R * tokens,
        row_of=rows_R.repeat_interleave(tokens),
    )


def _mixed(rows_RM: Tensor, which: Tensor, weights_RJ: Tensor, tokens: _Tokens) -> Tensor:
    """[R, M] sum over j of weight (r, j) times row `which` (r, j)."""
    bag: Any = torch._embedding_bag_forward_only  # pyright: ignore  # the public one counts its bags anew in each call
    mixed: Tensor = bag(rows_RM, which, tokens.begins_R, False, 0, False, weights_RJ.view(-1))[0]
    return mixed


def _products(left_RM: Tensor, rows_RM: Tensor, tokens: _Tokens) -> Tensor:
    """[R, J] left row r · row of token j of receiver r."""
    along: Any = torch.ops.aten._embedding_bag_per_sample_weights_backward  # pyright: ignore
    products: Tensor = along(left_RM, rows_RM, tokens.heard, tokens.begins_R, tokens.row_of, 0)
    return products.view(tokens.shape)


def message_sequence(
    own_part_TBNM: Tensor,
    queries_TBNM: Tensor | None,
    heard_TBNK: Tensor | None,
    start_BNM: Tensor,
    weight_MM: Tensor,
    *,
    half: bool,
    offsets: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    """[T, B, N, M] messages before rounding, and the last one as it crosses the wire.

    Args:
        own_part_TBNM: what a message owes to its sender's own state.
        queries_TBNM: of the receivers, scaled and through the transposed key matrix.
        heard_TBNK: in-edges of each receiver, entry k from agent i - offset k: 1 where a message of
            the step before is heard. None, like no queries: nobody ever hears anybody.
        start_BNM: own messages before the first step as they cross the wire.
        weight_MM: from mixtures of messages (rows) to what a message owes to them (columns).
        half: messages cross the wire as float16; the gradient passes the rounding unchanged.
        offsets: of the edges; empty: 2^k, those of the backbone.
    """
    time, batch, agents, size = own_part_TBNM.shape
    rows = batch * agents
    queries, heard, shifts = None, None, ()
    if queries_TBNM is not None and heard_TBNK is not None:
        edges = heard_TBNK.shape[-1]
        shifts = offsets or tuple(1 << k for k in range(edges))
        queries = queries_TBNM.reshape(time, rows, size)
        heard = heard_TBNK.reshape(time, rows, edges)
    tokens = _tokens(batch, agents, shifts, own_part_TBNM.device)
    arguments = (
        own_part_TBNM.reshape(time, rows, size),
        queries,
        heard,
        start_BNM.reshape(rows, size),
        weight_MM,
    )
    grad = any(x is not None and x.requires_grad for x in arguments)
    if grad and torch.is_grad_enabled():
        function: Any = _MessageSequence  # torch does not type apply()
        messages, last = function.apply(*arguments, half, tokens)
    else:
        messages, last = _run(*arguments, half, tokens, tape=None)
    return messages.view(own_part_TBNM.shape), last.view(start_BNM.shape)


@dataclass(slots=True, eq=False)
class _Tape:
    """What backward needs besides inputs and outputs, step by step."""

    sent: list[Tensor]
    """[R, M] own messages as they crossed the wire, before the step."""
    mixtures: list[Tensor]
    """[R, M]"""
    logits: list[Tensor]
    """[R, J]; empty if nobody is heard, like the weights."""
    weights: list[Tensor]
    """[R, J]"""


def _run(
    own_part_TRM: Tensor,
    queries_TRM: Tensor | None,
    heard_TRK: Tensor | None,
    start_RM: Tensor,
    weight_MM: Tensor,
    half: bool,
    tokens: _Tokens,
    *,
    tape: _Tape | None,
) -> tuple[Tensor, Tensor]:
    """[T, R, M] messages and the last one as it crosses the wire; fills the tape."""
    messages_TRM = torch.empty_like(own_part_TRM)
    wire_RM = torch.empty_like(start_RM, dtype=torch.float16)
    nobody = [None] * len(own_part_TRM)
    queries = nobody if queries_TRM is None else queries_TRM.unbind(0)
    openness = nobody if heard_TRK is None else _with_own(heard_TRK.log(), 0.0).unbind(0)
    own_RM = start_RM
    for own_part_RM, query_RM, openness_RJ, message_RM in zip(
        own_part_TRM.unbind(0), queries, openness, messages_TRM.unbind(0), strict=True
    ):
        mixture_RM = own_RM
        if query_RM is not None and openness_RJ is not None:
            logits_RJ = _products(query_RM, own_RM, tokens)
            weights_RJ = torch.softmax(logits_RJ + openness_RJ, -1)
            mixture_RM = _mixed(own_RM, tokens.heard, weights_RJ, tokens)
            if tape is not None:
                tape.logits.append(logits_RJ)
                tape.weights.append(weights_RJ)
        if tape is not None:
            tape.sent.append(own_RM)
            tape.mixtures.append(mixture_RM)
        tanh_(torch.addmm(own_part_RM, mixture_RM, weight_MM, out=message_RM))
        own_RM = wire_RM.copy_(message_RM).to(message_RM.dtype) if half else message_RM
    return messages_TRM, own_RM


def _with_own(x_TRK: Tensor, own: float) -> Tensor:
    """[T, R, J] with the own token in front."""
    return functional.pad(x_TRK, (1, 0), value=own)


class _MessageSequence(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any,
        own_part_TRM: Tensor,
        queries_TRM: Tensor | None,
        heard_TRK: Tensor | None,
        start_RM: Tensor,
        weight_MM: Tensor,
        half: bool,
        tokens: _Tokens,
    ) -> tuple[Tensor, Tensor]:
        ctx.tape, ctx.tokens = _Tape([], [], [], []), tokens
        messages_TRM, last_RM = _run(
            own_part_TRM,
            queries_TRM,
            heard_TRK,
            start_RM,
            weight_MM,
            half,
            tokens,
            tape=ctx.tape,
        )
        ctx.save_for_backward(queries_TRM, heard_TRK, weight_MM, messages_TRM)
        return messages_TRM, last_RM if half else last_RM.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, d_messages_TRM: Tensor, d_last_RM: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries_TRM, heard_TRK, weight_MM, messages_TRM = ctx.saved_tensors
        tape: _Tape = ctx.tape
        ctx.tape = None
        tokens: _Tokens = ctx.tokens
        d_tanh: Any = torch.ops.aten.tanh_backward.grad_input
        d_softmax: Any = torch.ops.aten._softmax_backward_data  # pyright: ignore
        d_own_part_TRM = torch.empty_like(messages_TRM)
        d_queries: list[Tensor] = []
        pulls: list[Tensor] = []
        backward_weight = weight_MM.t()
        d_own_RM = d_last_RM
        for t in range(len(messages_TRM) - 1, -1, -1):
            d_message_RM = d_own_RM + d_messages_TRM[t]
            d_part_RM = d_tanh(d_message_RM, messages_TRM[t], grad_input=d_own_part_TRM[t])
            d_mixture_RM = torch.mm(d_part_RM, backward_weight)
            if not tape.weights:
                d_own_RM = d_mixture_RM
                continue
            own_RM, weights_RJ = tape.sent[t], tape.weights[t]
            pulls_RJ = _products(d_mixture_RM, own_RM, tokens)
            d_logits_RJ = d_softmax(pulls_RJ, weights_RJ, -1, pulls_RJ.dtype)
            d_queries.append(_mixed(own_RM, tokens.heard, d_logits_RJ, tokens))
            pulls.append(pulls_RJ)
            # A message is a token of all who heard it: of their mixtures and of their logits.
            sent_weights = weights_RJ.view(-1).index_select(0, tokens.seats)
            sent_d_logits = d_logits_RJ.view(-1).index_select(0, tokens.seats)
            d_own_RM = _mixed(d_mixture_RM, tokens.hearers, sent_weights, tokens)
            d_own_RM += _mixed(queries_TRM[t], tokens.hearers, sent_d_logits, tokens)
        size = len(weight_MM)
        # One product for all steps: adding up T of them would write the sum T times.
        mixtures = torch.cat(tape.mixtures)
        d_weight = mixtures.t() @ d_own_part_TRM.view(-1, size)
        d_heard = None
        if ctx.needs_input_grad[2]:
            d_heard = _towards_gates(tape, heard_TRK, torch.stack(pulls[::-1]))
        return (
            d_own_part_TRM,
            torch.stack(d_queries[::-1]) if d_queries else None,
            d_heard,
            d_own_RM,
            d_weight,
            None,
            None,
        )


def _towards_gates(tape: _Tape, heard_TRK: Tensor, pulls_TRJ: Tensor) -> Tensor:
    """[T, R, K] dw/dC of each in-edge, closed ones included, along what their messages would do."""
    logits_TRJ, weights_TRJ = torch.stack(tape.logits), torch.stack(tape.weights)
    total_TR1 = (logits_TRJ + _with_own(heard_TRK.log(), 0.0)).logsumexp(-1, keepdim=True)
    closed_TRJ = functional.pad(heard_TRK == 0, (1, 0))
    peak_TR1 = logits_TRJ.masked_fill(closed_TRJ, float("-inf")).amax(-1, keepdim=True)
    share_TRJ = (logits_TRJ.minimum(peak_TR1) - total_TR1).exp_()
    mean_TR1 = (weights_TRJ * pulls_TRJ).sum(-1, keepdim=True)
    return (share_TRJ * (pulls_TRJ - mean_TR1))[..., 1:]
