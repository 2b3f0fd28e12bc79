"""The initial set and the test set: where they come from, and that the second is independent of the first."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from al_engine.config import InitialConfig, StretchConfig, SystemConfig
from al_engine.errors import InputError
from al_engine.structures.bonds import bond_lengths
from al_engine.structures.neighbours import closest_distance
from samplers.building.system import boxed, build_system
from samplers.classical.anneal import anneal, constant_temperature_frames
from samplers.classical.mmff import mmff_system
from samplers.initial.initial import initial_frames, split_evenly, spread_evenly

TEMPERATURES = [300.0, 500.0, 700.0, 900.0]


def system_of(smiles="CCO", **more):
    return build_system(SystemConfig(smiles=smiles, **more), base_dir=Path(), seed=1)


def initial(system, *, base_dir=Path(), seed=2, progress=None, temperatures=TEMPERATURES, **config):
    options = {"frames": 12, "test_frames": 8, "duration_ps": 0.8} | config
    watch = {} if progress is None else {"progress": progress}
    return initial_frames(system, InitialConfig(**options), temperatures, base_dir=base_dir, seed=seed, **watch)


@pytest.fixture(scope="module")
def ethanol():
    """A single molecule, and the initial set that the default config makes of it."""
    system = system_of()
    return system, initial(system)


def test_an_anneal_cools():
    """By equipartition the bonds' mean squared fluctuation is proportional to the temperature."""
    system = system_of()
    found = anneal(system, hot_kelvin=1000, cold_kelvin=100, duration_ps=10, frames=400, timestep_fs=0.5, seed=3)
    np.testing.assert_allclose(found.temperature_kelvin[[0, -1]], [997.75, 100.0])
    assert (np.diff(found.temperature_kelvin) < 0).all()
    lengths = np.array([bond_lengths(f.positions, system.bonds.pairs) for f in found.frames])
    spread = [np.var(part, axis=0).mean() / np.mean(part_t) for part, part_t in _thirds(lengths, found)]
    assert max(spread) / min(spread) < 1.8  # variance over temperature is constant
    assert np.var(lengths[:100], axis=0).mean() > 2.5 * np.var(lengths[-100:], axis=0).mean()


def _thirds(lengths, found):
    for part in np.array_split(np.arange(len(lengths)), 3):
        yield lengths[part], found.temperature_kelvin[part]


def test_constant_temperature_frames_have_their_temperature():
    """Mean MMFF94 energy above the minimum lies near half a kT for each of the 3N - 6 vibrations and more."""
    import openmm

    system = system_of("O")
    model = mmff_system(system.molecule, 1)
    context = openmm.Context(model, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))

    def energy(frame):
        context.setPositions(frame.positions * 0.1)
        return context.getState(energy=True).getPotentialEnergy().value_in_unit(openmm.unit.kilojoule_per_mole)

    lowest = energy(system.frame)  # the conformer is relaxed with the same force field
    for kelvin in (300.0, 900.0):
        found = constant_temperature_frames(
            system, kelvin=kelvin, hot_kelvin=1000, duration_ps=25, frames=300, timestep_fs=1.0, seed=5
        )
        mean = np.mean([energy(f) - lowest for f in found.frames])
        expected = 3 * 0.5 * 8.314462e-3 * kelvin
        assert mean == pytest.approx(expected, rel=0.25)  # 3 sigma of about 100 independent ones, and anharmonicity


def test_counts_temperatures_and_soundness():
    seen = []
    found = initial(system_of(molecules=2), progress=lambda done, total, note: seen.append((done, total, note)))
    assert (len(found.train), len(found.test)) == (12, 8)
    assert found.force_field == "MMFF94"
    np.testing.assert_array_equal(found.test_temperature_kelvin, np.repeat(TEMPERATURES, 2))
    assert found.train_temperature_kelvin[-1] == 280.0
    assert sorted({s[:2] for s in seen}) == [(k, 20) for k in range(21)]
    assert [s[0] for s in seen] == sorted(s[0] for s in seen)
    for frame in found.train + found.test:
        assert closest_distance(frame.positions, frame.cell, frame.pbc) > 0.7


def test_the_same_seed_gives_the_same_frames(ethanol):
    hashes = [
        [f.content_hash() for f in found.train + found.test]
        for found in (ethanol[1], initial(system_of()), initial(system_of(), seed=1))
    ]
    assert hashes[0] == hashes[1]
    assert not set(hashes[0]) & set(hashes[2])


def test_the_test_set_does_not_depend_on_the_training_set():
    """More training frames, other stretching: the test set stays bit by bit, and shares no frame with training."""
    system = system_of(molecules=2)
    few = initial(system)
    many = initial(system, frames=20, stretch=StretchConfig(share=0.5))
    assert [f.content_hash() for f in few.test] == [f.content_hash() for f in many.test]
    assert not {f.content_hash() for f in few.test} & {f.content_hash() for f in few.train}


@pytest.mark.parametrize("molecules", [1, 2])
def test_every_run_of_the_test_set_starts_from_a_structure_of_its_own(molecules, monkeypatch):
    system, starts = system_of("OCCO", molecules=molecules), []

    def watched(source, **options):
        starts.append(source.frame.content_hash())
        return constant_temperature_frames(source, **options)

    monkeypatch.setattr("samplers.initial.initial.constant_temperature_frames", watched)
    initial(system)
    assert len({system.frame.content_hash(), *starts}) == 1 + len(TEMPERATURES)


@pytest.mark.parametrize(
    ("smiles", "more"),
    [("[CH3]", {"unpaired_electrons": 2}), ("C1=C[NH+]=CN1", {}), ("B(F)(F)F", {})],
)
def test_radicals_ions_and_molecules_that_only_uff_knows_hold_together(smiles, more):
    system = system_of(smiles, molecules=2, **more)
    found = initial(system)
    for frame in found.train + found.test:
        assert frame.charge == system.frame.charge
        assert frame.unpaired_electrons == system.frame.unpaired_electrons
        assert np.abs(bond_lengths(frame.positions, system.bonds.pairs) - system.bonds.lengths).max() < 0.5


def test_clusters_cut_from_a_box():
    system = system_of("O", molecules=3, density_g_per_cm3=0.9)
    found = initial(system, box_molecules=12, duration_ps=0.3, frames=4, test_frames=4)
    for frame in found.train + found.test:
        assert not frame.is_periodic
        np.testing.assert_array_equal(frame.numbers, system.frame.numbers)
        assert np.abs(bond_lengths(frame.positions, system.bonds.pairs) - system.bonds.lengths).max() < 0.4


def test_a_periodic_box_is_annealed_whole():
    system = system_of("O", molecules=8, shape="box", density_g_per_cm3=0.9)
    found = initial(system, duration_ps=0.3, frames=4, test_frames=4)
    for frame in found.train + found.test:
        np.testing.assert_array_equal(frame.cell, system.frame.cell)
        assert frame.pbc.all()
        assert np.abs(bond_lengths(frame.positions, system.bonds.pairs) - system.bonds.lengths).max() < 0.4
        assert closest_distance(frame.positions, frame.cell, frame.pbc) > 0.7


def test_the_share_of_stretched_frames_is_the_configured_share(ethanol):
    system, plain = ethanol
    stretched = initial(system, stretch=StretchConfig(share=0.25, shortest_factor=0.85, longest_factor=2.0))
    changed = [a.content_hash() != b.content_hash() for a, b in zip(plain.train, stretched.train, strict=True)]
    assert sum(changed) == 3
    assert changed == stretched.train_stretched.tolist()
    assert not plain.train_stretched.any()


def test_several_bonds_are_stretched_in_succession(ethanol):
    system, plain = ethanol
    stretched = initial(system, stretch=StretchConfig(share=0.5, bonds=3))
    for before, after, chosen in zip(plain.train, stretched.train, stretched.train_stretched, strict=True):
        lengths = [bond_lengths(frame.positions, system.bonds.pairs) for frame in (before, after)]
        assert np.sum(np.abs(lengths[1] / lengths[0] - 1) > 1e-9) == (3 if chosen else 0)
    assert stretched.train_stretched.sum() == 6


def test_an_anneal_too_short_for_its_frames():
    with pytest.raises(InputError, match=r"duration_ps: 0\.001 ps are 2 steps"):
        initial(system_of(), duration_ps=0.001)


def test_an_anneal_that_diverges_names_the_options_to_change():
    with pytest.raises(InputError, match=r"diverged at .* K .*lower initial\.timestep_fs \(now 5\)"):
        initial(system_of("CCO", molecules=2), timestep_fs=5.0, hot_kelvin=20000.0, duration_ps=50)


def trajectory(path, count):
    rng = np.random.default_rng(1)
    base = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    images = []
    for index in range(count):
        atoms = base.copy()
        atoms.positions += 0.05 * rng.normal(size=(3, 3))
        atoms.positions += [index, 0, 0] - atoms.positions[0]  # marks the frame
        images.append(atoms)
    write(path, images, format="extxyz")


def test_frames_from_a_file_are_split_evenly(tmp_path):
    trajectory(tmp_path / "mine.xyz", 30)
    system = system_of("O", unpaired_electrons=2)
    found = initial(system, base_dir=tmp_path, source="file", file="mine.xyz", frames=20, test_frames=5)
    assert found.force_field == "file"
    assert [f.positions[0, 0] for f in found.test] == [3, 9, 15, 21, 27]
    marks = [f.positions[0, 0] for f in found.train]
    assert len(set(marks)) == 20
    assert not set(marks) & {3, 9, 15, 21, 27}
    assert {f.unpaired_electrons for f in found.train} == {2}  # water's atoms: the system's spin
    assert np.isnan(found.test_temperature_kelvin).all()


def test_clusters_from_a_trajectory_of_a_box(tmp_path, rng):
    """Whole molecules nearest the centre are cut, in the system's order, as from an anneal; MD can start from them."""
    system = system_of("O", molecules=3, density_g_per_cm3=0.9)
    box = boxed(system, 20, seed=5)
    order = rng.permutation(len(box.frame))
    images = []
    for _ in range(12):
        atoms = box.frame.to_atoms()[order]
        atoms.positions += 0.03 * rng.normal(size=atoms.positions.shape) + 1.0
        atoms.wrap()
        images.append(atoms)
    write(tmp_path / "box.xyz", images, format="extxyz")
    found = initial(system, base_dir=tmp_path, source="file", file="box.xyz", frames=8, test_frames=4)
    assert (len(found.train), len(found.test)) == (8, 4)
    for frame in found.train + found.test:
        assert not frame.is_periodic
        np.testing.assert_array_equal(frame.numbers, system.frame.numbers)
        assert np.abs(bond_lengths(frame.positions, system.bonds.pairs) - system.bonds.lengths).max() < 0.3


def test_too_few_frames_in_the_file(tmp_path):
    trajectory(tmp_path / "mine.xyz", 10)
    with pytest.raises(InputError, match=r"mine\.xyz has too few frames, 10; .* ask for 20"):
        initial(system_of("O"), base_dir=tmp_path, source="file", file="mine.xyz")


def test_a_file_with_impossible_frames_names_the_frame(tmp_path):
    trajectory(tmp_path / "mine.xyz", 30)
    with (tmp_path / "mine.xyz").open("a") as stream:
        stream.write('2\nProperties=species:S:1:pos:R:3 pbc="F F F"\nO 0 0 0\nH 1 0 0\n')
    with pytest.raises(InputError, match=r"mine\.xyz, frame 30 has other atoms .* of its 9 electrons 0 can't be"):
        initial(system_of("O"), base_dir=tmp_path, source="file", file="mine.xyz")


def test_spread_and_split():
    assert spread_evenly(10, 4) == [3, 3, 2, 2]
    for available, train, test in [(140, 100, 40), (141, 100, 40), (5, 1, 4), (1000, 7, 3), (2, 1, 1)]:
        first, second = split_evenly(available, train, test)
        assert (len(set(first.tolist())), len(set(second.tolist()))) == (train, test)
        assert not set(first.tolist()) & set(second.tolist())
        assert max(first.max(), second.max()) < available
