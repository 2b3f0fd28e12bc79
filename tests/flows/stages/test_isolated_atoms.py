"""Isolated atoms with the energies of the campaign's method (`training.reference_energies: isolated_atoms`)."""

import pytest
from ase import Atoms
from stage_runs import begun
from tblite.ase import TBLite

from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from flows.session.preflight import preflight
from models import load_committee

TEXT = """
name: atoms
seed: 3
system: {smiles: CO}
initial: {frames: 12, test_frames: 2, duration_ps: 0.5}
model:
  short: {cutoff_ang: 3.5, channels: 8, l_max: 1, radial_mlp: [16]}
  long: {cutoff_ang: 5.0, channels: 4, l_max: 0, radial_mlp: []}
training: {updates: 20, validation_interval: 20, members: 2, reference_energies: isolated_atoms}
sampling: {temperatures_kelvin: [300], replicas: 2, steps: 20, stride_steps: 10, cost_share: 0}
selection: {max_labels: 3, upper_mev_per_ang: 1.0e+4}
labels: {backend: tblite, chunk_frames: 20, force_check: {frames: 0}}
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """After two iterations, the second of which starts from the members of the first."""
    with begun(tmp_path_factory.mktemp("isolated") / "atoms", TEXT) as campaign:
        campaign.iteration(0)
        campaign.iteration(1)
        yield campaign


@pytest.mark.parametrize(("symbol", "unpaired"), [("H", 1), ("C", 2), ("O", 2)])
def test_the_force_field_has_the_energies_of_gfn2_for_atoms(campaign, symbol, unpaired):
    atom = Atoms(symbol)
    atom.calc = TBLite(method="GFN2-xTB", multiplicity=unpaired + 1, verbosity=0)
    expected = atom.get_potential_energy()
    atom.calc = load_committee(campaign.ledger.directory)
    assert atom.get_potential_energy() == pytest.approx(expected, abs=1e-5)


def test_molecules_keep_theirs(campaign):
    item = campaign.ledger.dataset()[0]
    atoms = item.frame.to_atoms()
    atoms.calc = load_committee(campaign.ledger.directory)
    assert abs(atoms.get_potential_energy() - item.energy) < 1.0  # eV; the atoms are 22 eV higher


def test_a_method_without_such_atoms_is_refused_before_the_campaign(tmp_path):
    text = TEXT.replace("backend: tblite", "backend: ase, ase_calculator: 'failing_calculator:NoAtoms'")
    with pytest.raises(InputError, match=r"isolated atom H can't be labelled .*set it to `fitted`"):
        preflight(parse_config(text, source="test"), base_dir=tmp_path)


def test_one_spin_for_all_frames_is_refused():
    text = TEXT.replace("backend: tblite", "backend: ase, ase_calculator: emt, ase_charge_and_spin: parameters")
    with pytest.raises(InputError, match="sets the same spin for all frames"):
        parse_config(text, source="test")
