"""The recurrence over messages, all steps in one function whose gradient is written by hand.

    own last message, those of the in-neighbours whose edge is open -> attention -> next message

For a receiver with the tokens 0 (its own last message) and k (that of agent i - 2^k):

    l_k = q · m_k                  w = softmax over own + open tokens of l + log C     (equation 5)
    m'  = tanh(p + W sum w_k m_k)  p: what the message owes to the agent's own state

and m', rounded as on the wire, is what everybody hears at the next step. The query has been through
the transposed key matrix, q · (W_k m) = (W_k^T q) · m: a token is nothing but its message, and no
keys are made step by step.

Logits and weights lie token by token, [J, R]: torch's softmax over a last dimension of a few tokens
takes ten times as long as one over the first.

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

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from learner.kernels.products import gradient_of_weight
from learner.kernels.tanh import tanh_

_ALONG: Any = torch.ops.aten._embedding_bag_per_sample_weights_backward.default  # pyright: ignore  # untyped in torch


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """Whom R = B × N receivers hear, and who hears R senders."""

    shape: tuple[int, int]
    """J, R of the tables below, which are flat."""
    heard: Tensor
    """[R, J] row of token j of receiver r."""
    heard_by_token: Tensor
    """[J, R] the same."""
    hearers: Tensor
    """[R, J] row of the receiver of which sender r is token j."""
    seats: Tensor
    """[R, J] where in a table [J, R] of receivers the entry of that receiver and token is."""
    begins_R: Tensor
    """Where the entries of each row begin in a table [R, J]."""
    row_of: Tensor
    """[J, R] row that each entry belongs to."""
    exist: Tensor | None = None
    """[R, J] whether there is such a receiver; None: there is each of them."""


@lru_cache(maxsize=16)
def _tokens(batch: int, agents: int, offsets: tuple[int, ...], device: torch.device) -> _Tokens:
    shifts_J = torch.tensor([0, *offsets], device=device)
    agents_N1 = torch.arange(agents, device=device).unsqueeze(1)
    first_B11 = (torch.arange(batch, device=device) * agents).view(-1, 1, 1)
    rows, tokens = batch * agents, 1 + len(offsets)

    def table(agents_NJ: Tensor) -> Tensor:
        return (first_B11 + agents_NJ % agents).view(rows, tokens)

    return _tables(table(agents_N1 - shifts_J), table(agents_N1 + shifts_J))


def _tokens_of(
    living_R: Tensor, batch: int, agents: int, offsets: tuple[int, ...], dtype: torch.dtype
) -> _Tokens:
    """Among some of the rows. Those that are missing are dead: nobody hears them, and what they
    would hear does not matter.
    """
    whole = _tokens(batch, agents, offsets, living_R.device)
    rows_R = torch.arange(len(living_R), device=living_R.device)
    place = torch.full((batch * agents,), -1, device=living_R.device).scatter_(0, living_R, rows_R)
    heard_RJ = place[whole.heard.view(-1, whole.shape[0])[living_R]]
    hearers_RJ = place[whole.hearers.view(-1, whole.shape[0])[living_R]]
    heard_RJ = torch.where(heard_RJ < 0, rows_R.unsqueeze(1), heard_RJ)
    tokens = _tables(heard_RJ, hearers_RJ.clamp(min=0))
    return replace(tokens, exist=(hearers_RJ >= 0).view(-1).to(dtype))


def _tables(heard_RJ: Tensor, hearers_RJ: Tensor) -> _Tokens:
    rows, tokens = heard_RJ.shape
    device = heard_RJ.device
    rows_R = torch.arange(rows, device=device)
    return _Tokens(
        shape=(tokens, rows),
        heard=heard_RJ.view(-1),
        heard_by_token=heard_RJ.t().reshape(-1),
        hearers=hearers_RJ.view(-1),
        seats=(hearers_RJ + rows * torch.arange(tokens, device=device)).view(-1),
        begins_R=rows_R * tokens,
        row_of=rows_R.repeat(tokens),
    )


def _mixed(rows_RM: Tensor, which: Tensor, weights: Tensor, tokens: _Tokens) -> Tensor:
    """[R, M] sum over j of weight (r, j) times row `which` (r, j); both flat."""
    bag: Any = torch._embedding_bag_forward_only  # pyright: ignore  # the public one counts its bags anew in each call
    mixed: Tensor = bag(rows_RM, which, tokens.begins_R, False, 0, False, weights)[0]
    return mixed


def _products(left_RM: Tensor, rows_RM: Tensor, tokens: _Tokens) -> Tensor:
    """[J, R] left row r · row of token j of receiver r."""
    heard, along = tokens.heard_by_token, _ALONG
    products: Tensor = along(left_RM, rows_RM, heard, tokens.begins_R, tokens.row_of, 0)
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
    living_R: Tensor | None = None,
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
        living_R: rows b × N + n that own parts and queries are of, as [T, 1, R, M]; so are messages
            then. What is heard and the start are of all B × N. None: all rows.
    """
    time, batch, agents, size = own_part_TBNM.shape
    rows = batch * agents
    start = start_BNM.reshape(-1, size)
    queries, heard, shifts = None, None, ()
    if queries_TBNM is not None and heard_TBNK is not None:
        edges = heard_TBNK.shape[-1]
        shifts = offsets or tuple(1 << k for k in range(edges))
        queries = queries_TBNM.reshape(time, rows, size)
        heard = heard_TBNK.reshape(time, -1, edges)
    if living_R is None:
        tokens = _tokens(batch, agents, shifts, own_part_TBNM.device)
    else:
        whole_batch, all_agents, _ = start_BNM.shape
        tokens = _tokens_of(living_R, whole_batch, all_agents, shifts, own_part_TBNM.dtype)
        start = start.index_select(0, living_R)
        heard = None if heard is None else heard.index_select(1, living_R)
    arguments = (
        own_part_TBNM.reshape(time, rows, size),
        queries,
        heard,
        start,
        weight_MM,
    )
    grad = any(x is not None and x.requires_grad for x in arguments)
    if grad and torch.is_grad_enabled():
        function: Any = _MessageSequence  # torch does not type apply()
        messages, last = function.apply(*arguments, half, tokens)
    else:
        messages, last = _run(*arguments, half, tokens, tape=None)
    return messages.view(own_part_TBNM.shape), last.view(batch, agents, size)


@dataclass(slots=True, eq=False)
class _Tape:
    """What backward needs besides inputs and outputs, step by step."""

    sent: list[Tensor]
    """[R, M] own messages as they crossed the wire, before the step."""
    mixtures: list[Tensor]
    """[R, M]"""
    logits: list[Tensor]
    """[J, R]; empty if nobody is heard, like the weights."""
    weights: list[Tensor]
    """[J, R]"""
    openness_TJR: Tensor | None = None
    """log C of each token."""


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
    openness = nobody
    if heard_TRK is not None:
        openness_TJR = _openness(heard_TRK)
        openness = openness_TJR.unbind(0)
        if tape is not None:
            tape.openness_TJR = openness_TJR
    own_RM = start_RM
    for own_part_RM, query_RM, openness_JR, message_RM in zip(
        own_part_TRM.unbind(0), queries, openness, messages_TRM.unbind(0), strict=True
    ):
        mixture_RM = own_RM
        if query_RM is not None and openness_JR is not None:
            logits_JR = _products(query_RM, own_RM, tokens)
            weights_JR = torch.softmax(logits_JR + openness_JR, 0)
            mixture_RM = _mixed(own_RM, tokens.heard, _by_row(weights_JR), tokens)
            if tape is not None:
                tape.logits.append(logits_JR)
                tape.weights.append(weights_JR)
        if tape is not None:
            tape.sent.append(own_RM)
            tape.mixtures.append(mixture_RM)
        tanh_(torch.addmm(own_part_RM, mixture_RM, weight_MM, out=message_RM))
        own_RM = wire_RM.copy_(message_RM).to(message_RM.dtype) if half else message_RM
    return messages_TRM, own_RM


def _openness(heard_TRK: Tensor) -> Tensor:
    """[T, J, R] log C of each token; one's own is always there."""
    time, rows, edges = heard_TRK.shape
    openness_TJR = heard_TRK.new_zeros(time, 1 + edges, rows)
    torch.log(heard_TRK.transpose(1, 2), out=openness_TJR[:, 1:])
    return openness_TJR


def _by_row(table_JR: Tensor) -> Tensor:
    """The same numbers flat, row after row."""
    return table_JR.t().reshape(-1)


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
        ctx.save_for_backward(queries_TRM, weight_MM, messages_TRM)
        return messages_TRM, last_RM if half else last_RM.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch declares *args
        ctx: Any, d_messages_TRM: Tensor, d_last_RM: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries_TRM, weight_MM, messages_TRM = ctx.saved_tensors
        tape: _Tape = ctx.tape
        ctx.tape = None
        tokens: _Tokens = ctx.tokens
        d_tanh: Any = torch.ops.aten.tanh_backward.grad_input
        d_softmax: Any = torch._softmax_backward_data  # pyright: ignore  # untyped in torch
        d_own_part_TRM = torch.empty_like(messages_TRM)
        d_queries: list[Tensor] = []
        pulls: list[Tensor] = []
        backward_weight = weight_MM.t()
        d_own_RM = d_last_RM
        d_messages, messages = d_messages_TRM.unbind(0), messages_TRM.unbind(0)
        d_own_parts = d_own_part_TRM.unbind(0)
        queries = () if queries_TRM is None else queries_TRM.unbind(0)
        for t in range(len(messages) - 1, -1, -1):
            d_message_RM = d_own_RM + d_messages[t]
            d_part_RM = d_tanh(d_message_RM, messages[t], grad_input=d_own_parts[t])
            d_mixture_RM = torch.mm(d_part_RM, backward_weight)
            if not tape.weights:
                d_own_RM = d_mixture_RM
                continue
            own_RM, weights_JR = tape.sent[t], tape.weights[t]
            pulls_JR = _products(d_mixture_RM, own_RM, tokens)
            d_logits_JR = d_softmax(pulls_JR, weights_JR, 0, pulls_JR.dtype)
            d_queries.append(_mixed(own_RM, tokens.heard, _by_row(d_logits_JR), tokens))
            pulls.append(pulls_JR)
            # A message is a token of all who heard it: of their mixtures and of their logits.
            sent_weights = weights_JR.view(-1).index_select(0, tokens.seats)
            sent_d_logits = d_logits_JR.view(-1).index_select(0, tokens.seats)
            if tokens.exist is not None:
                sent_weights *= tokens.exist
                sent_d_logits *= tokens.exist
            d_own_RM = _mixed(d_mixture_RM, tokens.hearers, sent_weights, tokens)
            d_own_RM += _mixed(queries[t], tokens.hearers, sent_d_logits, tokens)
        size = len(weight_MM)
        # One product for all steps: adding up T of them would write the sum T times.
        mixtures = torch.cat(tape.mixtures)
        d_weight = gradient_of_weight(d_own_part_TRM.view(-1, size), mixtures)
        d_heard = None
        if ctx.needs_input_grad[2] and tape.openness_TJR is not None:
            d_heard = _towards_gates(tape, tape.openness_TJR, torch.stack(pulls[::-1]))
        return (
            d_own_part_TRM,
            torch.stack(d_queries[::-1]) if d_queries else None,
            d_heard,
            d_own_RM,
            d_weight,
            None,
            None,
        )


def _towards_gates(tape: _Tape, openness_TJR: Tensor, pulls_TJR: Tensor) -> Tensor:
    """[T, R, K] dw/dC of each in-edge, closed ones included, along what their messages would do."""
    logits_TJR, weights_TJR = torch.stack(tape.logits), torch.stack(tape.weights)
    total_T1R = (logits_TJR + openness_TJR).logsumexp(1, keepdim=True)
    closed_TJR = openness_TJR == float("-inf")
    peak_T1R = logits_TJR.masked_fill(closed_TJR, float("-inf")).amax(1, keepdim=True)
    share_TJR = (logits_TJR.minimum(peak_T1R) - total_T1R).exp_()
    mean_T1R = (weights_TJR * pulls_TJR).sum(1, keepdim=True)
    return (share_TJR * (pulls_TJR - mean_T1R))[:, 1:].transpose(1, 2)
