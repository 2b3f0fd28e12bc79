"""Functions of tensors as traced graphs that TorchScript runs, without the overhead of Python and of autograd."""
