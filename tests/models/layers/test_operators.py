"""Other implementations replace the operators of all modules or of none; the reference can be restored."""

import pytest
import torch
from torch import nn

from models.layers import kernels
from models.layers.kernels import use_kernels
from models.layers.operators import Operated, is_plain, use_plain
from models.layers.product import PlainProduct
from models.native import build
from models.native.build import KernelError

needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="there is no C++ compiler")


class Counting(nn.Module):
    """The reference, with a count of its calls."""

    def __init__(self, reference):
        super().__init__()
        self.reference, self.calls = reference, 0
        self.keeps_jacobian = False

    def fold(self, weights):
        return self.reference.fold(weights)

    def forward(self, *inputs):
        self.calls += 1
        return self.reference(*inputs)


def operated(model):
    return [part for part in model.modules() if isinstance(part, Operated)]


def test_a_model_calls_nothing_but_its_operators(model, random_cluster, evaluate):
    """A counting implementation is called instead of each reference, with bitwise equal results."""
    frame = random_cluster()
    energy, forces = evaluate(model, frame)
    for part in operated(model):
        part.replace_operator(Counting(part.reference))
    assert not is_plain(model)
    replaced, replaced_forces = evaluate(model, frame)
    assert replaced == energy
    assert (replaced_forces == forces).all()
    assert all(part.operator.calls == 1 for part in operated(model))
    use_plain(model)
    assert is_plain(model)
    assert evaluate(model, frame)[0] == energy


@needs_compiler
def test_kernels_replace_every_operator_or_none(model, monkeypatch):
    def broken(_):
        raise KernelError("on purpose")

    if any(isinstance(part.reference, PlainProduct) for part in operated(model)):
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "CPU", {**kernels.CPU, PlainProduct: broken})
            with pytest.raises(KernelError, match="on purpose"):
                use_kernels(model)
        assert all(part.is_plain for part in operated(model))
    use_kernels(model)
    assert not any(part.is_plain for part in operated(model))


@needs_compiler
def test_an_operator_has_no_weights(model):
    """The saved state of a model does not depend on the implementation in use."""
    plain = {name: weight.clone() for name, weight in model.state_dict().items()}
    use_kernels(model)
    after = model.state_dict()
    assert plain.keys() == after.keys()
    assert all(torch.equal(after[name], weight) for name, weight in plain.items())
