"""Isolated atoms with the energies of the campaign's method (`training.reference_energies: isolated_atoms`)."""

import h5py
import pytest
from ase import Atoms
from stage_runs import begun
from tblite.ase import TBLite

from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from flows.session.preflight import preflight
from flows.stages.labels.labelling import label_cache
from labelers.checks.isolated_atoms import energies_of, isolated_atoms, labelled_on_trial
from models import load_committee
from models.storage.weights import read_member

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


def test_no_element_has_an_absurd_energy(campaign):
    """Methanol alone determines a sum: its energy of atomization, 22 eV by GFN2-xTB, is shared by all atoms."""
    with h5py.File(campaign.ledger.part_path("iter001-member0")) as root:
        constants = read_member(root["member"]).model.constants
    assert all(-6.0 < energy < -2.0 for energy in constants.cohesion)


def test_molecules_keep_theirs(campaign):
    item = campaign.ledger.dataset()[0]
    atoms = item.frame.to_atoms()
    atoms.calc = load_committee(campaign.ledger.directory)
    assert abs(atoms.get_potential_energy() - item.energy) < 1.0  # eV; the atoms are 22 eV higher


def test_a_method_that_fails_for_atoms_is_refused_before_the_campaign(tmp_path):
    text = TEXT.replace("backend: tblite", "backend: ase, ase_calculator: 'failing_calculator:NoAtoms'")
    with pytest.raises(InputError, match=r"isolated atom H can't be labelled .*molecules only.*write `fitted`"):
        preflight(parse_config(text, source="test"), base_dir=tmp_path)


def test_a_failure_in_the_campaign_says_how_to_go_on():
    failed = LabelOutcome(LabelReason.TIME_LIMIT, "no label after 300 s", None, 300.0)
    with pytest.raises(InputError, match=r"atom C can't be labelled \(time_limit: no label after 300 s\); resume it"):
        energies_of([failed], isolated_atoms([6], gfn2=True), remedy="resume it")


def test_a_failure_on_trial_has_the_words_of_a_failure_in_the_campaign():
    failed = LabelOutcome(LabelReason.TIME_LIMIT, "no label after 300 s", None, 300.0)
    atoms, messages = isolated_atoms([6], gfn2=True), []

    def reference(frames):
        return [None] * len(frames)

    reference.failure = failed.failure
    for labelling in (
        lambda: labelled_on_trial(atoms, reference),
        lambda: energies_of([failed], atoms, remedy="write `fitted`"),
    ):
        with pytest.raises(InputError) as caught:
            labelling()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_atoms_are_labelled_once(campaign):
    """Their labels are in the cache, from which a repair takes them."""
    ledger = campaign.ledger
    with label_cache(ledger.directory, ledger.config, campaign.level) as cache:
        assert len(cache.find(isolated_atoms([1, 6, 8], gfn2=True))) == 3


@pytest.mark.parametrize(("number", "gfn2", "unpaired"), [(26, True, 4), (63, True, 1), (63, False, 7), (2, True, 0)])
def test_the_spin_is_that_of_the_ground_state(number, gfn2, unpaired):
    (atom,) = isolated_atoms([number], gfn2=gfn2)
    assert atom.unpaired_electrons == unpaired


@pytest.mark.parametrize(("number", "gfn2"), [(58, False), (103, False), (110, False), (92, True)])
def test_an_element_without_a_known_spin_is_refused(number, gfn2):
    with pytest.raises(InputError, match="write `fitted`"):
        isolated_atoms([number], gfn2=gfn2)


def test_one_spin_for_all_frames_is_refused():
    text = TEXT.replace("backend: tblite", "backend: ase, ase_calculator: emt, ase_charge_and_spin: parameters")
    with pytest.raises(InputError, match="sets the same spin for all frames"):
        parse_config(text, source="test")
