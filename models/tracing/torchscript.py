"""Traced graphs (torch.fx) of plain operators as TorchScript.

TorchScript runs a graph in an interpreter of its own, at about a microsecond for each operator, and a scripted function
can be stored in a file that loads without this package. `torch.jit.script` cannot read a traced graph, because
operators appear in it as objects, so the graph is printed as source text here.
"""

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

_SYMBOLS: Mapping[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.floordiv: "//",
    operator.mod: "%",
}
"""Arithmetic with sizes."""
_MEMORY_FORMATS = {torch.contiguous_format: "0", torch.preserve_format: "1"}
_FACTORIES = ("eye", "full", "ones", "scalar_tensor", "zeros", "arange", "empty")
"""Operators that make a tensor without a tensor argument: they need to be told the device."""
_IGNORED = ("device", "layout", "pin_memory")
"""Keyword arguments that are left out: all tensors are on the device of the first argument, strided."""


@dataclass(frozen=True, slots=True)
class Source:
    """A traced graph as source text.

    Attributes:
        lines: Body of a function, in which inputs and constants have the names below.
        inputs: Names of the inputs of the graph, which are tensors.
        constants: Tensors that the traced function did not take as arguments, by name. They share memory with the
            tensors that the function used, so that later changes in place are seen.
        n_results: Number of results, which are tensors.
    """

    lines: tuple[str, ...]
    inputs: tuple[str, ...]
    constants: Mapping[str, Tensor]
    n_results: int

    def function(self) -> Callable[..., tuple[Tensor, ...]]:
        """The graph as a scripted function of the inputs, then the constants.

        Raises:
            RuntimeError: If TorchScript does not accept the text.
        """
        arguments = ", ".join(f"{name}: Tensor" for name in [*self.inputs, *self.constants])
        text = _definition("traced", arguments, self.lines, self.n_results)
        with _without_advice():
            compiled: Any = torch.jit.CompilationUnit(text)
        function: Callable[..., tuple[Tensor, ...]] = compiled.traced
        return function

    def module(self, groups: Mapping[str, int]) -> torch.jit.ScriptModule:
        """The graph as a scripted module, which can be a part of other modules and be stored in a file.

        Its `forward` takes a list of tensors for each group of inputs, then a list of the constants: the number of
        inputs differs between models.

        Args:
            groups: The number of inputs of each group by its name, in the order of the inputs.

        Raises:
            RuntimeError: If TorchScript does not accept the text.
        """
        counts = {**groups, "constants": len(self.constants)}
        places = [f"{group}[{k}]" for group, count in counts.items() for k in range(count)]
        names = [*self.inputs, *self.constants]
        unpacked = [f"{name} = {place}" for name, place in zip(names, places, strict=True)]
        arguments = ", ".join(["self", *(f"{group}: List[Tensor]" for group in counts)])
        with _without_advice():
            module = type("Traced", (torch.jit.ScriptModule,), {})()  # each graph needs a class of its own
            module.define(_definition("forward", arguments, [*unpacked, *self.lines], self.n_results))
        return module


def source_of(graph: fx.GraphModule) -> Source:
    """Print a traced graph whose inputs and outputs are tensors.

    Raises:
        NotImplementedError: If the graph has a node of a kind that has no notation here.
    """
    lines: list[str] = []
    inputs: list[str] = []
    constants: dict[str, Tensor] = {}
    results: list[str] = []
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "get_attr":
            constants[node.name] = getattr(graph, node.target)
        elif node.op == "output":
            results = [_value(result) for result in node.args[0]]
        elif node.op == "call_function":
            lines.append(f"{node.name} = {_call(node)}")
        else:
            raise NotImplementedError(f"a node of the kind {node.op}")
    lines = [f"device = {inputs[0]}.device", *lines, f"return ({', '.join(results)},)"]
    return Source(tuple(lines), tuple(inputs), constants, len(results))


def _definition(name: str, arguments: str, lines: Sequence[str], n_results: int) -> str:
    """The definition of a function that returns tensors."""
    head = f"def {name}({arguments}) -> Tuple[{', '.join(['Tensor'] * n_results)}]:"
    return "\n    ".join([head, *lines]) + "\n"


@contextmanager
def _without_advice() -> Iterator[None]:
    """Hide that newer versions of torch advise against TorchScript: nothing else runs a graph without compiling it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _call(node: fx.Node) -> str:
    """The expression of a call."""
    target: Any = node.target
    arguments = [_value(each) for each in node.args]
    if target is operator.getitem:
        return f"{arguments[0]}[{arguments[1]}]"
    if target in _SYMBOLS:
        return f"({arguments[0]} {_SYMBOLS[target]} {arguments[1]})"
    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001  # the class of all operators has no public name
        raise NotImplementedError(f"a call of {target}")
    namespace, name = target._schema.name.split("::")  # noqa: SLF001
    if name in ("sym_size", "sym_numel"):
        return f"{arguments[0]}.size({arguments[1]})" if name == "sym_size" else f"{arguments[0]}.numel()"
    keywords = {key: _value(each) for key, each in node.kwargs.items() if key not in _IGNORED and each is not None}
    if name == "_to_copy":
        return f"{arguments[0]}.to({keywords['dtype']})" if "dtype" in keywords else arguments[0]
    if name == "scalar_tensor":
        return f"torch.tensor({arguments[0]}, dtype={keywords.get('dtype', 'torch.float32')}, device=device)"
    if name in _FACTORIES:
        keywords["device"] = "device"
    options = [f"{key}={text}" for key, text in keywords.items()]
    return f"torch.ops.{namespace}.{name}({', '.join([*arguments, *options])})"


def _value(value: Any) -> str:
    """An argument of a call as an expression."""
    if isinstance(value, fx.Node):
        return value.name
    if isinstance(value, torch.memory_format):
        return _MEMORY_FORMATS[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)  # numbers, strings, None and dtypes
