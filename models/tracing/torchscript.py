"""Traced graphs (torch.fx) of plain operators as TorchScript.

TorchScript runs a graph in an interpreter of its own, at about a microsecond for each operator, and a scripted function
can be stored in a file that loads without this package. `torch.jit.script` cannot read a traced graph, because
operators appear in it as objects, so the graph is printed as source text here.
"""

import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

ENTRY = "traced"
"""Name of the scripted function."""
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
        text: Definition of the function `ENTRY`. Its arguments are the inputs of the graph, then the constants.
        inputs: Names of the inputs.
        constants: Tensors that the traced function did not take as arguments, by the names of the last arguments. They
            share memory with the tensors that the function used, so that later changes in place are seen.
    """

    text: str
    inputs: tuple[str, ...]
    constants: Mapping[str, Tensor]


def source_of(graph: fx.GraphModule) -> Source:
    """Print a traced graph whose inputs and outputs are tensors.

    Raises:
        NotImplementedError: If the graph has a node of a kind that has no notation here.
    """
    lines: list[str] = []
    inputs: list[str] = []
    constants: dict[str, Tensor] = {}
    results = ""
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            inputs.append(node.name)
        elif node.op == "get_attr":
            constants[node.name] = getattr(graph, node.target)
        elif node.op == "output":
            results = ", ".join(_value(result) for result in node.args[0])
            lines.append(f"return ({results},)")
        elif node.op == "call_function":
            lines.append(f"{node.name} = {_call(node)}")
        else:
            raise NotImplementedError(f"a node of the kind {node.op}")
    n_results = results.count(",") + 1
    arguments = [*inputs, *constants]
    head = f"def {ENTRY}({', '.join(f'{name}: Tensor' for name in arguments)}) -> Tuple[{_tensors(n_results)}]:"
    body = [f"device = {arguments[0]}.device", *lines]
    return Source("\n    ".join([head, *body]) + "\n", tuple(inputs), constants)


def scripted(source: Source) -> Callable[..., tuple[Tensor, ...]]:
    """Compile source text to a function of the inputs, then the constants.

    Raises:
        RuntimeError: If TorchScript does not accept the text.
    """
    with warnings.catch_warnings():
        # Newer versions of torch advise against TorchScript, but have nothing else that runs a graph without compiling.
        warnings.simplefilter("ignore", DeprecationWarning)
        function: Callable[..., tuple[Tensor, ...]] = getattr(torch.jit.CompilationUnit(source.text), ENTRY)
    return function


def _tensors(number: int) -> str:
    return ", ".join(["Tensor"] * number)


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
