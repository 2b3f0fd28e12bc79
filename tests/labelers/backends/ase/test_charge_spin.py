"""Charge and unpaired electrons reach an ASE calculator, or the frame is refused with the key to set."""

import re

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes, names
from ase_programs import command, frame

from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from labelers import LabelError, LabelReason, create_labeler
from labelers.backends.ase.calculator import build_calculator, calculator_class
from labelers.backends.ase.charge_spin import ChargeAndSpin, magnetic_atoms, spread
from labelers.backends.ase.facts import FACTS, facts_of

ANION = {"charge": -1, "unpaired_electrons": 2}
KEY = "labels.ase_charge_and_spin"


class Recording(Calculator):
    """A calculator that records its atoms and parameters."""

    implemented_properties = ("energy", "forces")
    seen: list = []  # noqa: RUF012 - of the class: each label has a fresh calculator

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.seen.append((self.atoms, dict(self.parameters)))
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


RECORDING = f"{Recording.__module__}:Recording"


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(Recording, "seen", [])
    return Recording.seen


def labeler(calculator, way="auto", **parameters):
    return create_labeler(
        LabelsConfig(backend="ase", ase_calculator=calculator, ase_parameters=parameters, ase_charge_and_spin=way)
    )


def charge_and_spin_of(name, way="auto", **parameters):
    return ChargeAndSpin(name, facts_of(name, calculator_class(name)), way, parameters)


# -- the table -------------------------------------------------------------------------------------------------------

TRUE = {"command": "true"}
WRITTEN = {
    "gaussian": (TRUE, [r"^-1 3$"]),
    "nwchem": ({**TRUE, "dft": {"xc": "pbe0"}}, [r"^charge -1$", r"^ *mult 3$"]),
    "gamess_us": (TRUE, ["ICHARG=-1", "MULT=3", "SCFTYP=UHF"]),
    "demon": (TRUE, ["^CHARGE +-1$", "^MULTIPLICITY +3$", "^SCFTYPE +UKS$"]),
    "elk": (
        {"profile": TRUE},
        [r"^chgexs\n +1$", r"^momfix\n +0 0 2$", r"^spinpol\n +\.true\.$", r"^fsmtype\n +1$", r"0.0 0.0 2.0"],
    ),
    "siesta": (
        TRUE,
        [r"^NetCharge\s-1$", r"^Spin\scollinear$", r"^Spin.Fix\sTrue$", r"^Spin.Total\s2$", r"InitSpin\n +1 2.0"],
    ),
    "octopus": ({"profile": TRUE}, [r"^excesscharge = -1$"]),
    "onetep": ({"profile": {**TRUE, "pseudo_path": "/nowhere"}}, [r"^charge *: *-1$"]),
    "demonnano": (
        {**TRUE, "basis_path": "/nowhere", "input_arguments": {"DFTB": "SCC"}},
        [r"^CHARGE -1$", "^DFTB SCC$"],
    ),
    "dmol": (TRUE, [r"^charge +-1$"]),
}
"""Calculators whose inputs ASE can write without the program: parameters, and patterns that the input must contain."""


@pytest.mark.filterwarnings("ignore")  # ASE's own plans
@pytest.mark.parametrize("name", WRITTEN)
def test_the_input_that_ase_writes_for_an_anion_with_two_unpaired_electrons(name, tmp_path):
    parameters, patterns = WRITTEN[name]
    if name == "siesta":
        for symbol in "CH":
            (tmp_path / f"{symbol}.lda.psf").touch()
        parameters = {**parameters, "pseudo_path": str(tmp_path)}
    calculator, facts = calculator_class(name), FACTS[name]
    system = frame(boxed=True, charge=-1, unpaired_electrons=2 if facts.takes_spin else 0)
    way = charge_and_spin_of(name, **parameters)
    atoms = system.to_atoms()
    way.mark(atoms, system)
    folder = tmp_path / "calculation"
    fresh = build_calculator(calculator, facts, way.parameters_for(system), folder)
    if hasattr(fresh, "write_inputfiles"):
        fresh.write_inputfiles(atoms, ["forces"])
    else:
        fresh.atoms = atoms
        fresh.write_input(atoms, ["energy", "forces"])
    text = "\n".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())
    for pattern in patterns:
        assert re.search(pattern, text, re.MULTILINE), f"{pattern}\n{text}"


@pytest.mark.parametrize("name", sorted({"cp2k", "psi4", "vasp", "abinit"}))
def test_parameters_of_calculators_whose_input_can_t_be_written_here(name):
    expected = {
        "cp2k": {"charge": -1, "multiplicity": 3, "uks": True},
        "psi4": {"charge": -1, "multiplicity": 3, "reference": "uhf"},
        "vasp": {"charge": -1, "nupdown": 2, "ispin": 2},
        "abinit": {"spinmagntarget": 2},
    }[name]
    system = frame(boxed=True, unpaired_electrons=2, charge=0 if name == "abinit" else -1)
    assert charge_and_spin_of(name).parameters_for(system) == expected


def test_every_row_is_of_a_calculator_that_ase_names_or_that_can_be_imported():
    for name in FACTS:
        if name not in names:
            assert name in {"tblite.ase", "xtb.ase.calculator"}
            __import__(name)


def test_a_class_given_by_path_and_a_derived_class_have_the_row_of_the_calculator():
    from ase.calculators.orca import ORCA

    class Mine(ORCA):
        pass

    assert facts_of("ase.calculators.orca:ORCA", ORCA) is FACTS["orca"]
    assert facts_of("my.package:Mine", Mine) is FACTS["orca"]
    assert facts_of("vasp", calculator_class("vasp")) is FACTS["vasp"]
    assert facts_of(RECORDING, Recording) is None
    assert facts_of("my.package:function", lambda: None) is None


def test_closed_shells_get_only_parameters_that_reset_the_previous_frame():
    for name in sorted(FACTS.keys() & set(names) - {"gpaw"}):
        added = charge_and_spin_of(name).parameters_for(frame("H2O", boxed=True))
        assert added == ({"reference": "rhf"} if name == "psi4" else {})


def test_the_user_s_nested_parameters_stay_and_are_never_changed():
    parameters = {"input_data": {"SYSTEM": {"ecutwfc": 30}, "control": {"tprnfor": True}}, "kpts": [1, 1, 1]}
    before = repr(parameters)
    added = charge_and_spin_of("espresso", **parameters).parameters_for(frame(boxed=True, **ANION))
    system = {"ecutwfc": 30, "tot_charge": -1, "tot_magnetization": 2, "nspin": 2}
    assert added == {"input_data": {"SYSTEM": system, "control": {"tprnfor": True}}, "kpts": [1, 1, 1]}
    assert repr(parameters) == before


# -- contradictions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("orca", {"charge": 0}, r"ase_parameters.charge is 0, but .* charge \+1 \(system.charge\).* would be 1"),
        ("orca", {"mult": 3}, r"ase_parameters.mult is 3, but .* 0 unpaired electrons \(system.unpaired_electrons\)"),
        ("gaussian", {"charge": "-1"}, r"ase_parameters.charge is '-1'"),
        ("aims", {"multiplicity": 2}, "ase_parameters.multiplicity is 2"),
        ("espresso", {"tot_charge": 0}, "ase_parameters.tot_charge is 0"),
        ("espresso", {"input_data": {"tot_charge": -1}}, "ase_parameters.input_data.tot_charge is -1"),
        ("espresso", {"input_data": {"SYSTEM": {"Tot_Charge": 2}}}, "input_data.system.tot_charge is 2"),
        ("nwchem", {"dft": {"mult": 3}}, "ase_parameters.dft.mult is 3"),
        ("elk", {"chgexs": 1}, "ase_parameters.chgexs is 1, .* would be -1"),
        ("dftb", {"Hamiltonian_SpinPolarisation": "Colinear {UnpairedElectrons=1}"}, "UnpairedElectrons=1"),
        ("tblite.ase:TBLite", {"charge": 2}, "ase_parameters.charge is 2"),
        (RECORDING, {"total_charge": 0}, "ase_parameters.total_charge is 0"),
    ],
)
def test_parameters_that_contradict_the_system_are_refused_with_both_numbers_and_keys(name, parameters, words):
    with pytest.raises(InputError, match=words) as caught:
        charge_and_spin_of(name, **parameters).parameters_for(frame("H2O", charge=1))
    assert "`parameters`" in str(caught.value)


@pytest.mark.parametrize("name", ["orca", "mopac", "tblite.ase:TBLite", RECORDING])
def test_a_charge_in_the_parameters_of_a_neutral_system_is_refused(name):
    with pytest.raises(InputError, match=r"charge is 1, but .* charge \+0 \(system.charge\)"):
        charge_and_spin_of(name, charge=1).parameters_for(frame("H2O"))


def test_parameters_that_agree_with_the_frame_are_accepted_in_any_spelling():
    cation, triplet = frame("H2O", charge=1), frame("O2", unpaired_electrons=2)
    assert charge_and_spin_of("orca", charge=1, mult=1).parameters_for(cation) == {"charge": 1, "mult": 1}
    assert charge_and_spin_of("orca", Charge="+1").parameters_for(cation) == {
        "Charge": "+1",
        "charge": 1,
    }  # ORCA reads small letters
    written = {"Hamiltonian_SpinPolarisation": "Colinear {UnpairedElectrons=2}"}
    wanted = {"Hamiltonian_SpinPolarisation": "Colinear {UnpairedElectrons = 2}"}
    assert charge_and_spin_of("dftb", **written).parameters_for(triplet) == wanted
    stated = {"input_data": {"tot_charge": 1.0}}
    assert charge_and_spin_of("espresso", **stated).parameters_for(frame("H2O", boxed=True, charge=1)) == stated


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("aims", {"spin": "none"}),
        ("psi4", {"reference": "RHF"}),
        ("cp2k", {"uks": False}),
        ("vasp", {"ispin": 1}),
        ("siesta", {"spin": "non-polarized"}),
        ("gamess_us", {"contrl": {"scftyp": "rhf"}}),
    ],
)
def test_a_method_without_unpaired_electrons_is_refused_for_a_radical(name, parameters):
    with pytest.raises(InputError, match="leaves no electron unpaired"):
        charge_and_spin_of(name, **parameters).parameters_for(frame(boxed=True, unpaired_electrons=1))


def test_the_user_s_other_open_shell_method_is_kept():
    added = charge_and_spin_of("psi4", reference="rohf").parameters_for(frame(unpaired_electrons=1))
    assert added == {"reference": "rohf", "multiplicity": 2}


# -- without a known way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "charge_and_spin", "words"),
    [
        ("emt", {"charge": 1}, r"charge \+1: no way .* 'emt'"),
        ("lj", {"unpaired_electrons": 1}, "1 unpaired electron: no way .* 'lj'"),
        (RECORDING, ANION, "charge -1 and 2 unpaired electrons: no way"),
        ("octopus", ANION, "2 unpaired electrons: no way"),
        ("abinit", ANION, "charge -1: no way"),
        ("mopac", {"unpaired_electrons": 5}, "at most 4 unpaired electrons"),
    ],
)
def test_charge_and_spin_without_a_known_way_are_refused_with_the_key_to_set(name, charge_and_spin, words):
    with pytest.raises(InputError, match=words) as caught:
        charge_and_spin_of(name).parameters_for(frame(**charge_and_spin))
    assert KEY in str(caught.value)


def test_neutral_closed_shells_need_no_known_way(seen):
    labeler(RECORDING).label(frame("H2O"))
    labeler("emt").check(frame("H2O"))
    ((atoms, parameters),) = seen
    assert not atoms.has("initial_charges")
    assert not atoms.has("initial_magmoms")
    assert parameters == {}


def test_atoms_carry_charge_and_spin_if_the_user_chooses_atoms(seen):
    labeler(RECORDING, "atoms").label(frame(**ANION))
    ((atoms, parameters),) = seen
    assert atoms.get_initial_charges().sum() == -1.0
    assert atoms.get_initial_magnetic_moments().tolist() == [2.0, 0.0, 0.0, 0.0]
    assert (atoms.info["charge"], atoms.info["spin"]) == (-1, 3)
    assert parameters == {}


def test_parameters_are_unchanged_if_the_user_chooses_parameters(seen):
    labeler(RECORDING, "parameters", charge=7).label(frame(**ANION))
    ((atoms, parameters),) = seen
    assert not atoms.has("initial_charges")
    assert not atoms.has("initial_magmoms")
    assert parameters == {"charge": 7}


def test_a_calculator_that_takes_parameters_does_not_read_atoms():
    with pytest.raises(InputError, match=r"is `atoms`, but 'orca' takes `charge`, `mult`.* set it to `auto`"):
        labeler("orca", "atoms", profile={"command": command("orca")}, orcasimpleinput="EnGrad")


def test_a_frame_whose_charge_cannot_be_passed_fails_without_affecting_the_next():
    emt = labeler("emt")
    with pytest.raises(LabelError, match=KEY) as caught:
        emt.label(frame("H2O", charge=1))
    assert caught.value.reason is LabelReason.BAD_INPUT
    assert np.isfinite(emt.label(frame("H2O"))[0])


@pytest.mark.parametrize("calculator", ["tblite.ase:TBLite", "xtb.ase.calculator:XTB"])
def test_gfn2_through_ase_is_gfn2(calculator, molecules):
    backend = "tblite" if "tblite" in calculator else "xtb"
    for name in ("acetate", "oxygen", "methyl"):
        through_ase = labeler(calculator).label(molecules[name])
        direct = create_labeler(LabelsConfig(backend=backend)).label(molecules[name])
        turned = backend == "xtb"  # our own labeler turns frames, xtb's ASE calculator does not
        assert through_ase[0] == pytest.approx(direct[0], abs=1e-6 if turned else 1e-8)
        np.testing.assert_allclose(through_ase[1], direct[1], atol=1e-3 if turned else 1e-8)


# -- initial moments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [1, 2, 3, 7, -2])
def test_shares_add_up_exactly_in_any_order(total):
    rng = np.random.default_rng(0)
    for count in range(1, 120):
        atoms = np.zeros(150, dtype=bool)
        atoms[rng.choice(150, count, replace=False)] = True
        shares = spread(total, atoms)
        assert sum(shares.tolist()) == sum(shares[::-1].tolist()) == shares.sum() == total
        assert (shares[~atoms] == 0.0).all()
        assert np.ptp(shares[atoms]) < 2e-4


def test_initial_moments_are_on_metals_or_else_on_heavy_atoms_or_else_on_all_atoms():
    def chosen(*numbers):
        return magnetic_atoms(Frame(numbers=numbers, positions=np.eye(len(numbers), 3))).tolist()

    assert chosen(26, 6, 1) == [True, False, False]
    assert chosen(92, 9, 9) == [True, False, False]
    assert chosen(6, 1, 8) == [True, False, True]
    assert chosen(1, 1) == [True, True]
