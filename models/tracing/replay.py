"""Replay of a function of tensors, for functions that are called thousands of times with tensors of equal shapes.

In a small network most of the time of an evaluation is not arithmetic but Python and autograd. A traced call has all
operators that autograd ran, of the first and of the second derivative, in their order. TorchScript runs the same
operators on other values without that overhead, with the same results bit for bit.
"""

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from models.tracing.torchscript import source_of

Function: TypeAlias = Callable[..., Sequence[Tensor]]
COMPARED = 3
"""Number of replays that are compared with the function: TorchScript optimises a graph during its first runs."""

_log = logging.getLogger(__name__)


class Replay:
    """A function that is traced at a call, and replayed from then on.

    The function must do the same operators for all values of its tensors. Tensors that it uses without taking them as
    arguments, such as weights, may change in place between the calls, but must not be replaced.

    A replay is used only if its first results equal the function's bit for bit. Otherwise, and if tracing fails, the
    function is called as it is, and the reason is logged.
    """

    def __init__(self, function: Function, *, after: int) -> None:
        """Trace nothing yet.

        Args:
            function: Takes and returns tensors on a CPU.
            after: Number of calls before the function is traced, so that a few calls do not pay for the trace.
        """
        self._function, self._after = function, after
        self._calls = self._compared = 0
        self._script: Callable[..., tuple[Tensor, ...]] | None = None
        self._constants: list[Tensor] = []
        self._shapes: list[torch.Size] = []
        self.failed = False

    @property
    def active(self) -> bool:
        """Whether calls are replayed without comparison."""
        return self._script is not None and self._compared >= COMPARED

    def __call__(self, *tensors: Tensor) -> Sequence[Tensor]:
        """The results of the function.

        Tensors of other shapes than the traced call's are passed to the function itself.
        """
        if self.failed:
            return self._function(*tensors)
        if self._script is None:
            self._calls += 1
            if self._calls <= self._after:
                return self._function(*tensors)
            self._trace(tensors)
        if self._script is None or [tensor.shape for tensor in tensors] != self._shapes:
            return self._function(*tensors)
        try:
            with torch.no_grad():  # derivatives are operators of the graph
                results = self._script(*(tensor.detach() for tensor in tensors), *self._constants)
        except RuntimeError as error:
            if KeyboardInterrupt.__name__ in str(error):  # TorchScript turns what an operator raises into this
                raise KeyboardInterrupt from error
            raise
        if self._compared < COMPARED:
            self._compared += 1
            expected = self._function(*tensors)
            if not all(map(_equal, results, expected)):
                self._give_up("its results differ from those of the function")
                return expected
        return results

    def _trace(self, tensors: Sequence[Tensor]) -> None:
        # With SymPy, this import takes a second, which every process that only evaluates a model would pay.
        from torch.fx.experimental.proxy_tensor import make_fx

        try:
            graph = make_fx(self._function)(*tensors)
            graph.graph.eliminate_dead_code()
            source = source_of(graph)
            self._script = source.function()
        except Exception as error:  # noqa: BLE001  # tracing fails in many ways, and the function itself always works
            self._give_up(str(error).strip().split("\n")[0])
            return
        self._constants = [constant.detach() for constant in source.constants.values()]
        self._shapes = [tensor.shape for tensor in tensors]

    def _give_up(self, reason: str) -> None:
        self.failed, self._script = True, None
        _log.warning("a function is not replayed as a graph: %s", reason)


def _equal(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors have the same values, where NaN equals NaN."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(((first == second) | (first.isnan() & second.isnan())).all())
