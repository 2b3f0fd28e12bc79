"""NequIP with the defaults of its builder, except for the setting; runs in its own environment.

Batzner et al., NequIP, Nature Communications 13, 2453 (2022); https://github.com/mir-group/nequip.
"""

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from nequip.data import AtomicDataDict, compute_neighborlist_, from_dict
from nequip.model import NequIPGNNModel
from nequip.nn.compile import DictInputOutputWrapper
from nequip.scripts._compile_utils import AOTI_ASE_TARGET, COMPILE_TARGET_DICT
from nequip.utils.aot import aot_export_model
from nequip.utils.global_state import set_global_state

from contestants.structures import Structure
from contestants.worker import Task, serve


class NequIP:
    """NequIPGNNModel with random weights.

    The setting has `cutoff_ang`, `channels`, `l_max`, `parity`, `layers`, `radial_mlp`, `dtype` and `compiled`, which
    uses NequIP's own compilation: its `compile_mode` for training, and for evaluation the AOTInductor package that
    `nequip-compile` makes for its ASE calculator.
    """

    def __init__(self, setting: Mapping[str, Any], training: Sequence[Structure], device: torch.device) -> None:
        set_global_state()
        self.setting, self.device = setting, device
        self.cutoff = float(setting["cutoff_ang"])
        self.numbers = sorted({int(z) for item in training for z in item.numbers})
        edges = [self._data(item)[AtomicDataDict.EDGE_INDEX_KEY].shape[1] for item in training]
        width, *more = setting["radial_mlp"]
        elements = [chemical_symbols[z] for z in self.numbers]
        self.model = NequIPGNNModel(
            seed=0,
            model_dtype=setting["dtype"],
            compile_mode="compile" if setting["compiled"] else "eager",
            type_names=elements,
            r_max=self.cutoff,
            num_layers=setting["layers"],
            l_max=setting["l_max"],
            parity=setting["parity"],
            num_features=setting["channels"],
            radial_mlp_depth=1 + len(more),
            radial_mlp_width=width,
            avg_num_neighbors=sum(edges) / sum(map(len, training)),
            per_type_energy_scales=dict.fromkeys(elements, 1.0),
            per_type_energy_shifts=dict.fromkeys(elements, 0.0),
        ).to(device)
        self._package: Any = None

    def describe(self) -> dict[str, Any]:
        """Versions, size and setting."""
        packages = ("nequip", "e3nn", "torch", "numpy")
        return {
            "versions": {name: version(name) for name in packages},
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "setting": dict(self.setting),
        }

    def modules(self) -> dict[str, torch.nn.Module]:
        """All modules."""
        return {name: module for name, module in self.model.named_modules() if name}

    def task(self, name: str, structures: Sequence[Structure]) -> Task:
        """See `Contestant`."""
        if name == "neighbours":
            return lambda: self._batch([self._data(item) for item in structures])
        if name == "forces":
            (item,) = structures
            model = self._compiled(item) if self.setting["compiled"] else self.model.eval()
            frame = self._single(item)

            def evaluate() -> tuple[torch.Tensor, torch.Tensor]:
                output = model(dict(frame))
                energies = output[AtomicDataDict.TOTAL_ENERGY_KEY]
                return energies.detach().flatten(), output[AtomicDataDict.FORCE_KEY].detach()

            return evaluate
        if name == "training":
            return self._training([self._data(item) for item in structures])
        raise KeyError(name)

    def _data(self, item: Structure) -> Any:
        """A structure with its neighbour list."""
        values = {
            AtomicDataDict.POSITIONS_KEY: item.positions,
            AtomicDataDict.ATOM_TYPE_KEY: np.searchsorted(self.numbers, item.numbers),
            AtomicDataDict.PBC_KEY: torch.from_numpy(item.pbc),
            AtomicDataDict.TOTAL_ENERGY_KEY: np.atleast_1d(item.energy),
            AtomicDataDict.FORCE_KEY: item.forces,
        }
        if item.pbc.any():
            values[AtomicDataDict.CELL_KEY] = item.cell
        return compute_neighborlist_(from_dict(values), r_max=self.cutoff)

    def _single(self, item: Structure) -> Any:
        """A structure as NequIP's ASE calculator passes it to the model: with a cell and without a batch index."""
        data = self._data(item)
        data.setdefault(AtomicDataDict.CELL_KEY, torch.eye(3, dtype=torch.float64).unsqueeze(0))
        data.setdefault(
            AtomicDataDict.EDGE_CELL_SHIFT_KEY,
            torch.zeros(data[AtomicDataDict.EDGE_INDEX_KEY].shape[1], 3, dtype=torch.float64),
        )
        return AtomicDataDict.to_(data, self.device)

    def _compiled(self, item: Structure) -> Any:
        """The result of `nequip-compile --mode aotinductor --target ase`, for any structure; made only once."""
        if self._package is not None:
            return self._package
        target = COMPILE_TARGET_DICT[AOTI_ASE_TARGET]
        sizes = {kind: torch.export.Dim(f"num_{kind}s", min=2) for kind in ("node", "edge")}
        with tempfile.TemporaryDirectory(prefix="nequip-compile-") as folder:
            path = aot_export_model(
                model=self.model.eval(),
                device=self.device,
                input_fields=target["input"],
                output_fields=target["output"],
                data=target["data_settings"](self._single(item)),
                batch_map={**sizes, "graph": torch.export.Dim.STATIC},
                output_path=f"{folder}/model.nequip.pt2",
            )
            loaded = torch._inductor.aoti_load_package(path)  # noqa: SLF001  # its documented name
        self._package = DictInputOutputWrapper(loaded, target["input"], target["output"])
        return self._package

    def _batch(self, items: Sequence[Any]) -> Any:
        return AtomicDataDict.to_(AtomicDataDict.batched_from_list(list(items)), self.device)

    def _training(self, items: Sequence[Any]) -> Task:
        """An update: collation, loss per atom and force component, double backward, Adam, moving average."""
        self.model.train()
        weights = list(self.model.parameters())
        optimizer = torch.optim.Adam(weights, lr=0.01, amsgrad=True)
        average = [weight.detach().clone() for weight in weights]

        def update() -> None:
            batch = self._batch(items)
            optimizer.zero_grad(set_to_none=True)
            output = self.model(dict(batch))
            sizes = batch[AtomicDataDict.NUM_NODES_KEY].reshape(-1, 1)
            energy_error = (output[AtomicDataDict.TOTAL_ENERGY_KEY] - batch[AtomicDataDict.TOTAL_ENERGY_KEY]) / sizes
            force_error = output[AtomicDataDict.FORCE_KEY] - batch[AtomicDataDict.FORCE_KEY]
            (energy_error.square().mean() + 100.0 * force_error.square().mean()).backward()
            torch.nn.utils.clip_grad_norm_(weights, max_norm=10.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(average, weights, 0.01)

        return update


if __name__ == "__main__":
    serve(NequIP)
