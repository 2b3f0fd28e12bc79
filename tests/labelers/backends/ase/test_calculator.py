"""ASE calculators of every kind: a folder of their own, the energy that the forces belong to, keys without effect."""

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase_programs import config, frame
from free_energy_calculators import EnergyAlone, Smeared, Unlisted

from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from labelers import LabelError, LabelReason, create_labeler
from labelers.backends.ase.calculator import build_calculator, calculator_class
from labelers.backends.ase.facts import FACTS, UNKNOWN


def labeler(calculator, **parameters):
    name = calculator if isinstance(calculator, str) else f"{calculator.__module__}:{calculator.__name__}"
    return create_labeler(LabelsConfig(backend="ase", ase_calculator=name, ase_parameters=parameters))


# -- folders ---------------------------------------------------------------------------------------------------------


class Writing(BaseCalculator):
    """A calculator that writes a file into its folder, and fails if the file exists."""

    implemented_properties: ClassVar = ["energy", "forces"]
    folders: ClassVar = []

    def calculate(self, atoms, *_):
        path = Path(self.folder()) / "file"
        assert not path.exists()
        path.touch()
        self.folders.append(path.parent)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


class PathAttribute(Writing):
    def __init__(self):
        super().__init__()
        self.directory = Path()

    def folder(self):
        return self.directory / "."


class TextAttribute(Writing):
    def __init__(self):
        super().__init__()
        self.directory = "."

    def folder(self):
        return self.directory + "/"


class Keyword(Writing):
    def __init__(self, *, directory):
        super().__init__()
        self._directory = directory

    def folder(self):
        return self._directory


class Plain(Calculator):
    implemented_properties: ClassVar = ["energy", "forces"]
    folders: ClassVar = []

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.folders.append(Path(self.directory))
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


class Nowhere(BaseCalculator):
    implemented_properties: ClassVar = ["energy", "forces"]
    folders: ClassVar = []

    def calculate(self, atoms, *_):
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("calculator", [PathAttribute, TextAttribute, Keyword, Plain, Nowhere])
def test_each_label_has_a_fresh_folder_in_every_way_of_passing_it(calculator, kept, tmp_path):
    calculator.folders.clear()
    ase_labeler = labeler(calculator, **({"directory": str(tmp_path / "kept")} if kept else {}))
    for _ in range(3):
        ase_labeler.label(frame("H2O"))
    if calculator is Nowhere:
        return
    assert len(set(calculator.folders)) == 3
    assert all(folder.exists() == kept for folder in calculator.folders)
    assert all((folder.parent == tmp_path / "kept") == kept for folder in calculator.folders)


def test_lammps_writes_only_into_the_folder_that_it_makes_itself(tmp_path):
    fresh = build_calculator(calculator_class("lammpsrun"), FACTS["lammpsrun"], {}, tmp_path)
    assert fresh.directory == "."


def test_dftd3_gets_its_folder_by_keyword(tmp_path):
    fresh = build_calculator(calculator_class("dftd3"), FACTS["dftd3"], {"command": "true"}, tmp_path)
    assert fresh.dftd3.directory == str(tmp_path)


def test_a_mapping_becomes_the_profile_of_the_calculator_or_of_its_base_class(tmp_path):
    from ase.calculators.espresso import Espresso, EspressoProfile
    from ase.calculators.nwchem import NWChem

    class Mine(Espresso):
        pass

    profile = {"command": "mpirun pw.x", "pseudo_dir": "/pseudo"}
    fresh = build_calculator(Mine, FACTS["espresso"], {"profile": profile}, tmp_path)
    assert isinstance(fresh.profile, EspressoProfile)
    assert (fresh.profile.command, fresh.profile.pseudo_dir) == ("mpirun pw.x", "/pseudo")
    assert (
        build_calculator(NWChem, FACTS["nwchem"], {"profile": {"command": "nwchem"}}, tmp_path).profile.command
        == "nwchem"
    )


def test_exciting_gets_a_runner_in_its_folder(tmp_path):
    runner = {"binary": "exciting_smp", "run_argv": [], "omp_num_threads": 1}
    parameters = {"runner": runner, "ground_state_input": {}, "species_path": "/species"}
    fresh = build_calculator(calculator_class("exciting"), FACTS["exciting"], parameters, tmp_path)
    assert (fresh.profile.directory, fresh.directory) == (tmp_path, tmp_path)


def test_a_calculator_without_forces_is_refused():
    class Energies(Calculator):
        implemented_properties: ClassVar = ["energy"]

    sys.modules[__name__].Energies = Energies
    with pytest.raises(InputError, match=r"computes no forces \(it names energy\)"):
        labeler(Energies)


# -- the energy ------------------------------------------------------------------------------------------------------


class Old:
    """Has neither results nor the argument `force_consistent`."""

    def get_potential_energy(self, atoms):
        return 2.5 * float(((atoms.positions - atoms.positions.mean(axis=0)) ** 2).sum())

    def get_forces(self, atoms):
        return -5.0 * (atoms.positions - atoms.positions.mean(axis=0))


@pytest.mark.parametrize("calculator", [Smeared, Unlisted, EnergyAlone, Old])
def test_the_energy_stored_is_the_integral_of_the_forces(calculator):
    ase_labeler, step = labeler(calculator), 1e-4
    system = frame("H2O")
    _, forces, _ = ase_labeler.label(system)
    for atom, axis in [(0, 0), (1, 0), (2, 1)]:
        energies = []
        for sign in (+1, -1):
            positions = system.positions.copy()
            positions[atom, axis] += sign * step
            energies.append(ase_labeler.label(system.with_positions(positions))[0])
        assert (energies[1] - energies[0]) / (2 * step) == pytest.approx(forces[atom, axis], abs=1e-6)


def test_energy_and_forces_take_a_single_calculation():
    Smeared.calculations.clear()
    labeler(Smeared).label(frame("H2O"))
    assert Smeared.calculations == [["forces"]]


# -- keys without an effect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("lj", "sigmaa", "ignores `sigmaa`; did you mean `sigma`?"),
        ("lj", "cutoff", "ignores `cutoff`; it takes epsilon, rc, ro, sigma, smooth"),
        ("morse", "rho", "ignores `rho`; did you mean `rho0`?"),
        ("emt", "asap", "ignores `asap`; it takes asap_cutoff"),
        ("orca", "orcasimpleinpt", "ignores `orcasimpleinpt`; did you mean `orcasimpleinput`?"),
        ("orca", "basis", "ignores `basis`; it takes charge, mult, orcablocks, orcasimpleinput"),
        ("xtb.ase.calculator:XTB", "methd", "ignores `methd`; did you mean `method`?"),
        ("tblite.ase:TBLite", "acuracy", "ignores `acuracy`; did you mean `accuracy`?"),
    ],
)
def test_a_key_that_a_calculator_ignores_is_refused(name, key, words):
    with pytest.raises(InputError, match="ase_parameters") as caught:
        labeler(name, **{key: 1})
    assert words in str(caught.value)


@pytest.mark.parametrize("program", ["aims", "espresso", "qchem", "dftb", "mopac"])
def test_keys_that_are_handed_on_to_a_program_are_nobody_s_business(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "qchem").touch(mode=0o755)
    create_labeler(config(program, tmp_path, any_key_of_the_program=1, metod="X"))


def test_keys_that_a_derived_class_reads_pass():
    from ase.calculators.lj import LennardJones
    from ase.calculators.orca import ORCA

    from labelers.backends.ase.calculator import refuse_typos

    class Scaled(LennardJones):
        def calculate(self, *arguments):
            super().calculate(*arguments)
            self.results["energy"] *= self.parameters["sigma2"]

    class Mine(ORCA):
        pass

    refuse_typos(Scaled, FACTS["lj"], {"sigma2": 2.0, "anything": 1})
    refuse_typos(Mine, FACTS["orca"], {"mine": 1})
    with pytest.raises(InputError, match="`sigma`"):
        refuse_typos(Scaled, FACTS["lj"], {"sigmaa": 2.0})


def test_keys_that_a_class_names_or_that_are_like_none_pass():
    class Named(Calculator):
        default_parameters: ClassVar = {"cutoff": 1.0}

        def __init__(self, cutof=None, **others):
            super().__init__(**others)
            self.cutof = cutof

    from labelers.backends.ase.calculator import refuse_typos

    refuse_typos(Named, UNKNOWN, {"cutof": 1.0, "label": "x", "directory": ".", "temperature": 3})
    refuse_typos(lambda: None, UNKNOWN, {"anything": 1})
    with pytest.raises(InputError, match="cutoff"):
        refuse_typos(Named, UNKNOWN, {"cuttoff": 1.0})


# -- before the first label ------------------------------------------------------------------------------------------


def test_a_cluster_for_a_program_of_periodic_cells_is_refused(tmp_path):
    ase_labeler = create_labeler(config("espresso", tmp_path))
    with pytest.raises(InputError, match=r"'espresso' calculates only in a periodic cell.*system.shape to box"):
        ase_labeler.check(frame("H2O"))
    ase_labeler.check(frame("H2O", boxed=True))


@pytest.mark.parametrize("name", ["turbomole", "gromacs", "amber", "openmx"])
def test_a_calculator_that_writes_into_the_current_folder_is_refused(name):
    with pytest.raises(InputError, match=f"'{name}' writes its files into the current folder"):
        labeler(name)


class Diverging(Calculator):
    implemented_properties: ClassVar = ["energy", "forces"]

    def calculate(self, *_):
        from ase.calculators.calculator import SCFError

        raise SCFError("no\nconvergence")


def test_an_scf_error_is_not_converged():
    with pytest.raises(LabelError, match="Diverging: SCFError: no convergence") as caught:
        labeler(Diverging).label(frame("H2O"))
    assert caught.value.reason is LabelReason.NOT_CONVERGED


def test_the_words_of_a_calculator_without_files_are_its_exception():
    with pytest.raises(LabelError, match=r"emt: NotImplementedError: No EMT-potential for U$"):
        labeler("emt").label(Frame(numbers=[92], positions=[[0, 0, 0]]))
