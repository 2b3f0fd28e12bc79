"""The message kernel as torch operators with first and second derivatives.

Source and layout: `message.cpp`. The message is linear in each of Y, X, W and h, so its second derivatives are
messages and derivatives of messages with an argument replaced.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.graph.spherical import Coupling, clebsch_gordan, couplings_of
from models.native.build import real_type, table
from models.native.kernel import Kernel, refuse_derivative, save_derivative, save_tensors

SMALLEST_COEFFICIENT = 1e-12

_HEADER = """
#define REAL {real}
#define CHANNELS {channels}
#define N_RADIAL {n_radial}
#define N_HARMONICS {n_harmonics}
#define N_SOURCE {n_source}
#define N_COUPLINGS {n_couplings}
#define N_SUMS {n_sums}
#define N_ROWS {n_rows}
#define BLOCKS(F) {blocks}
struct Coupled {{ int sum, row; REAL coefficient; }};
struct Row {{ int before, width, within; }};
"""


@dataclass(frozen=True)
class MessageKernel(Kernel):
    """Compile-time constants of the message kernel.

    Attributes:
        l_max: Highest degree of the given harmonics.
        l_used: Highest degree of the harmonics that couple to a message.
        l_source: Highest degree of the features h.
        l_message: Highest degree of the messages.
        channels: Channels C of features and messages.
        n_radial: Inputs H of the last radial layer.
        dtype: Precision.
    """

    source: ClassVar[str] = "message.cpp"
    l_max: int
    l_used: int
    l_source: int
    l_message: int
    channels: int
    n_radial: int
    dtype: torch.dtype

    def __call__(self, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor) -> list[Tensor]:
        """Messages, degree by degree: (2l + 1, T, n_l · C) each, n_l couplings to degree l.

        Args:
            Y: Harmonics, shape (T, K, (l_max + 1)²).
            X: Inputs of the last radial layer, shape (T, K, H); a slot of zeros is skipped.
            W: Weights of the last radial layer, shape (H, P · C), P couplings.
            h: Features of N nodes, shape ((l_source + 1)², N, C).
            neighbours: Node of each neighbour, shape (T, K).
        """
        flat: Tensor = torch.ops.al_engine.message(self.key, Y, X, W, h, neighbours)
        sizes = [(2 * degree + 1) * n for degree, n in enumerate(self.counts) if n]
        T = neighbours.shape[0]  # not len(), which would be a constant in a trace
        parts = flat.split([T * size * self.channels for size in sizes])
        return [part.view(2 * degree + 1, T, -1) for degree, part in enumerate(parts)]

    @cached_property
    def couplings(self) -> list[Coupling]:
        """The couplings (l1, l2) -> l3 in the order of W's columns."""
        return couplings_of(self.l_used, self.l_source, self.l_message)

    @cached_property
    def counts(self) -> list[int]:
        """Number of couplings to each degree."""
        return [sum(p[2] == degree for p in self.couplings) for degree in range(self.l_message + 1)]

    @cached_property
    def n_rows(self) -> int:
        """Components of the messages of one channel."""
        return sum(2 * l3 + 1 for _, _, l3 in self.couplings)

    def header(self) -> str:
        """Sizes and tables for `message.cpp`."""
        couplings, counts = self.couplings, self.counts
        before = [sum(n * (2 * d + 1) for d, n in enumerate(counts[:degree])) for degree in range(self.l_message + 1)]
        seen = [0] * (self.l_message + 1)
        rows: list[tuple[int, int, int]] = []
        row_of: dict[tuple[int, int, int], int] = {}
        for l3, n in enumerate(counts):
            for m3 in range(2 * l3 + 1):
                for p in range(n):
                    row_of[l3, m3, p] = len(rows)
                    rows.append((before[l3] + m3 * n, n, p))
        blocks: list[tuple[int, ...]] = []
        coupled: list[tuple[int, int, float]] = []
        first_sum = first = 0
        for l1, l2 in sorted({p[:2] for p in couplings}):
            block = [p for p in couplings if p[:2] == (l1, l2)]
            for n, (_, _, l3) in enumerate(block):
                for m1, m2, m3 in torch.cartesian_prod(*(torch.arange(2 * d + 1) for d in (l1, l2, l3))).tolist():
                    coefficient = float(clebsch_gordan(l1, l2, l3)[m1, m2, m3])
                    if abs(coefficient) > SMALLEST_COEFFICIENT:
                        summed = first_sum + (m1 * len(block) + n) * (2 * l2 + 1) + m2
                        coupled.append((summed, row_of[l3, m3, seen[l3]], coefficient))
                seen[l3] += 1
            blocks.append((l1, l2, len(block), first, first_sum))
            first += len(block)
            first_sum += len(block) * (2 * l1 + 1) * (2 * l2 + 1)
        sizes = _HEADER.format(
            real=real_type(self.dtype),
            channels=self.channels,
            n_radial=self.n_radial,
            n_harmonics=(self.l_max + 1) ** 2,
            n_source=(self.l_source + 1) ** 2,
            n_couplings=len(couplings),
            n_sums=first_sum,
            n_rows=len(rows),
            blocks=" ".join(f"F{block}" for block in blocks),
        )
        return sizes + table("Coupled", "coupled", coupled) + table("Row", "rows", rows)


torch.library.define(
    "al_engine::message", "(str kernel, Tensor Y, Tensor X, Tensor W, Tensor h, Tensor neighbours) -> Tensor"
)
torch.library.define(
    "al_engine::message_backward",
    "(str kernel, Tensor g, Tensor Y, Tensor X, Tensor W, Tensor h, Tensor neighbours, bool with_weights)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "al_engine::message_backward_twice",
    "(str kernel, Tensor? v_Y, Tensor? v_X, Tensor? v_W, Tensor? v_h, Tensor g, Tensor Y, Tensor X, Tensor W, Tensor h,"
    " Tensor neighbours) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("al_engine::message", "CPU")
def _message(key: str, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor) -> Tensor:
    Y, X, W, h, neighbours = (tensor.contiguous() for tensor in (Y, X, W, h, neighbours))
    result = _message_shape(key, Y, X, W, h, neighbours)
    MessageKernel.from_key(key).call("message", (*neighbours.shape, h.shape[1]), Y, X, W, h, neighbours, result)
    return result


@torch.library.impl("al_engine::message_backward", "CPU")
def _message_backward(
    key: str, g: Tensor, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor, with_weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g, Y, X, W, h, neighbours = (tensor.contiguous() for tensor in (g, Y, X, W, h, neighbours))
    g_Y, g_X, g_h = torch.empty_like(Y), torch.empty_like(X), torch.zeros_like(h)
    g_W = torch.zeros_like(W) if with_weights else None
    MessageKernel.from_key(key).call(
        "message_backward", (*neighbours.shape, h.shape[1]), g, Y, X, W, h, neighbours, g_Y, g_X, g_h, g_W
    )
    return g_Y, g_X, W.new_empty(0) if g_W is None else g_W, g_h


@torch.library.impl("al_engine::message_backward_twice", "CPU")
def _message_backward_twice(
    key: str,
    v_Y: Tensor | None,
    v_X: Tensor | None,
    v_W: Tensor | None,
    v_h: Tensor | None,
    g: Tensor,
    Y: Tensor,
    X: Tensor,
    W: Tensor,
    h: Tensor,
    neighbours: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Derivatives of <v_Y, g_Y> + <v_X, g_X> + <v_W, g_W> + <v_h, g_h> by g, Y, X, W and h.

    The message M is linear in each of its arguments, so that sum is <g, M(v_Y, X, W, h) + M(Y, v_X, W, h) + ...>, and
    its derivatives are those of four messages with one argument replaced. A direction that is None is zero.
    """
    g, Y, X, W, h, neighbours = (tensor.contiguous() for tensor in (g, Y, X, W, h, neighbours))
    g_g, g_Y, g_X = (torch.empty_like(tensor) for tensor in (g, Y, X))
    g_W, g_h = torch.zeros_like(W), torch.zeros_like(h)
    directions = [None if tensor is None else tensor.contiguous() for tensor in (v_Y, v_X, v_h)]
    results = (g_g, g_Y, g_X, g_W, g_h)
    MessageKernel.from_key(key).call(
        "message_backward_twice", (*neighbours.shape, h.shape[1]), *directions, g, Y, X, W, h, neighbours, *results
    )
    if v_W is not None:
        inputs, with_weights = (Y, X, v_W.contiguous(), h, neighbours), False
        g_g += torch.ops.al_engine.message(key, *inputs)
        more_Y, more_X, _, more_h = torch.ops.al_engine.message_backward(key, g, *inputs, with_weights)
        g_Y, g_X, g_h = g_Y + more_Y, g_X + more_X, g_h + more_h
    return g_g, g_Y, g_X, g_W, g_h


@torch.library.register_fake("al_engine::message")
def _message_shape(key: str, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor) -> Tensor:
    return h.new_empty(MessageKernel.from_key(key).n_rows * neighbours.shape[0] * h.shape[2])


@torch.library.register_fake("al_engine::message_backward")
def _message_backward_shape(
    key: str, g: Tensor, Y: Tensor, X: Tensor, W: Tensor, h: Tensor, neighbours: Tensor, with_weights: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g_W = W.new_empty(W.shape) if with_weights else W.new_empty(0)
    return Y.new_empty(Y.shape), X.new_empty(X.shape), g_W, h.new_empty(h.shape)


@torch.library.register_fake("al_engine::message_backward_twice")
def _message_backward_twice_shape(
    key: str,
    v_Y: Tensor | None,
    v_X: Tensor | None,
    v_W: Tensor | None,
    v_h: Tensor | None,
    g: Tensor,
    Y: Tensor,
    X: Tensor,
    W: Tensor,
    h: Tensor,
    neighbours: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    g_g, g_Y, g_X, g_W, g_h = (tensor.new_empty(tensor.shape) for tensor in (g, Y, X, W, h))
    return g_g, g_Y, g_X, g_W, g_h


def _differentiate(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    Y, X, W, h, neighbours = ctx.saved_tensors
    with_weights = bool(ctx.needs_input_grad[3])
    g_Y, g_X, g_W, g_h = torch.ops.al_engine.message_backward(ctx.key, g, Y, X, W, h, neighbours, with_weights)
    return None, g_Y, g_X, g_W if with_weights else None, g_h, None


def _differentiate_twice(
    ctx: Any, v_Y: Tensor | None, v_X: Tensor | None, v_W: Tensor | None, v_h: Tensor | None
) -> tuple[Tensor | None, ...]:
    v_W = v_W if ctx.with_weights else None  # without weights g_W is a tensor without elements
    results = torch.ops.al_engine.message_backward_twice(ctx.key, v_Y, v_X, v_W, v_h, *ctx.saved_tensors)
    return (None, *results, None, None)


torch.library.register_autograd("al_engine::message", _differentiate, setup_context=save_tensors)
torch.library.register_autograd("al_engine::message_backward", _differentiate_twice, setup_context=save_derivative)
refuse_derivative("al_engine::message_backward_twice")
