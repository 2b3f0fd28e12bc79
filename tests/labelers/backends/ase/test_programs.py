"""Programs behind ASE's calculators: their inputs, folders, results and failures, as recorded by stand-ins."""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from ase_programs import ENERGY, FORCE, STAND_IN, UNITS, calls, command, config, frame, given, qchem_on_path

from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from labelers import LabelError, LabelPool, LabelReason, create_labeler
from labelers.backends.ase.folders import FAILED_KEPT

PROGRAMS = list(UNITS)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # ASE's own plans


@pytest.fixture
def record(tmp_path, monkeypatch):
    folder = tmp_path / "record"
    folder.mkdir()
    monkeypatch.setenv("RECORD", str(folder))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", qchem_on_path(tmp_path / "bin"))
    return folder


def label(program, folder, system, **parameters):
    labeler = create_labeler(config(program, folder, **parameters))
    labeler.check(system)
    return labeler.label(system)


@pytest.mark.parametrize("program", PROGRAMS)
def test_energy_in_ev_and_forces_in_ev_per_ang_come_from_a_single_calculation(program, record, tmp_path):
    system = frame("H2O", boxed=program == "espresso")
    energy, forces, _ = label(program, tmp_path, system)
    energy_unit, force_unit = UNITS[program]
    assert energy == pytest.approx(ENERGY * energy_unit, rel=1e-6)
    np.testing.assert_allclose(forces[:, 0], FORCE * force_unit * np.array([1, 2, 3]), rtol=1e-5)
    np.testing.assert_array_equal(forces[:, 1:], 0.0)
    assert len(calls(record)) == 1


CLOSED = {
    "orca": [(r"^\*xyz (.*) $", ["0 1"])],
    "aims": [(r"^(?:charge|spin|fixed_spin_moment)\b.*", []), (r"initial_", [])],
    "espresso": [(r"tot_\w+ *= .*|nspin *= .*|starting_mag", [])],
    "qchem": [(r"^ +(-?\d+ \d+)$", ["0 1"])],
    "dftb": [(r"(?:Charge|SpinPolarisation) = .*", [])],
    "mopac": [(r"CHARGE=\S+|UHF|\w+ET\b", [])],
}
CATION = {
    "orca": [(r"^\*xyz (.*) $", ["1 1"])],
    "aims": [(r"^(charge|spin|fixed_spin_moment) +(.*)", [("charge", "1")]), (r"initial_", [])],
    "espresso": [(r"(tot_\w+|nspin) *= (.*)", [("tot_charge", "1")])],
    "qchem": [(r"^ +(-?\d+ \d+)$", ["1 1"])],
    "dftb": [(r"(Charge|SpinPolarisation) = (.*) $", [("Charge", "1")])],
    "mopac": [(r"CHARGE=\S+|UHF|\w+ET\b", ["CHARGE=1"])],
}
TRIPLET_ANION = {
    "orca": [(r"^\*xyz (.*) $", ["-1 3"])],
    "aims": [
        (
            r"^(charge|spin|fixed_spin_moment) +(.*)",
            [("charge", "-1"), ("fixed_spin_moment", "2"), ("spin", "collinear")],
        ),
        (r"initial_moment +(.*)", ["2.000000"]),
    ],
    "espresso": [
        (r"(tot_\w+|nspin) *= (.*)", [("tot_charge", "-1"), ("tot_magnetization", "2"), ("nspin", "2")]),
        (r"starting_magnetization\(\d\) = (.*)", ["2.0", "0.0"]),
    ],
    "qchem": [(r"^ +(-?\d+ \d+)$", ["-1 3"])],
    "dftb": [
        (
            r"(Charge|SpinPolarisation) = (.*) $",
            [("Charge", "-1"), ("SpinPolarisation", "Colinear {UnpairedElectrons = 2}")],
        )
    ],
    "mopac": [(r"CHARGE=\S+|UHF|\w+ET\b", ["CHARGE=-1", "TRIPLET", "UHF"])],
}


@pytest.mark.parametrize(
    ("expected", "charge_and_spin"),
    [(CLOSED, {}), (CATION, {"charge": 1}), (TRIPLET_ANION, {"charge": -1, "unpaired_electrons": 2})],
    ids=["neutral", "cation", "triplet anion"],
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_charge_and_multiplicity_stand_in_the_program_s_input(program, expected, charge_and_spin, record, tmp_path):
    label(program, tmp_path, frame("CH3", boxed=program == "espresso", **charge_and_spin))
    for pattern, wanted in expected[program]:
        found = given(record, pattern)
        assert sorted(found) == sorted(wanted), pattern


@pytest.mark.parametrize("program", ["orca", "aims", "qchem"])
def test_two_workers_never_share_a_folder_and_leave_none(program, record, tmp_path):
    frames = [frame("H2O", shift=0.1 * i) for i in range(6)]
    with LabelPool(config(program, tmp_path), workers=2) as pool:
        outcomes = pool.label([*frames, *frames], time_limit_s=60.0)
    assert [outcome.message for outcome in outcomes] == [""] * 12
    folders = [folder for _, folder in calls(record)]
    assert len(set(folders)) == 12
    assert not any(folder.exists() or folder.parent.exists() for folder in folders)


@pytest.mark.parametrize("program", ["orca", "qchem", "dftb"])
def test_the_user_s_folder_holds_a_folder_per_label(program, record, tmp_path):
    wanted = tmp_path / "calculations" / program
    frames = [frame("H2O", shift=0.1 * i) for i in range(4)]
    with LabelPool(config(program, tmp_path, directory=str(wanted)), workers=2) as pool:
        assert all(outcome.ok for outcome in pool.label([*frames, frames[0]], time_limit_s=60.0))
    folders = [folder for _, folder in calls(record)]
    assert sorted(wanted.iterdir()) == sorted(folders)
    assert len(folders) == 5
    assert {folder.name[:12] for folder in folders} == {labelled.content_hash()[:12] for labelled in frames}
    assert all((folder / "taken").exists() for folder in folders)


def test_the_folders_of_the_first_failed_labels_are_kept(record, tmp_path, monkeypatch):
    wanted = tmp_path / "calculations"
    frames = [frame("H2O", shift=0.1 * i) for i in range(FAILED_KEPT + 2)]
    monkeypatch.setenv("FAIL", "1")
    labeler = create_labeler(config("orca", tmp_path, directory=str(wanted)))
    for failing in frames:
        with pytest.raises(LabelError):
            labeler.label(failing)
    assert len(list(wanted.iterdir())) == FAILED_KEPT
    assert all(folder.name.startswith("failed-") for folder in wanted.iterdir())
    assert len(list(record.iterdir())) == len(frames)


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_failure_has_the_program_s_last_output_and_no_temporary_path(program, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(LabelError, match=r"last output: some banner \| SCF DID NOT MEET \| ITS CRITERIA$") as caught:
        label(program, tmp_path, frame("H2O", boxed=program == "espresso"))
    assert caught.value.reason is LabelReason.BACKEND_ERROR
    assert str(tmp_path) not in caught.value.message.replace(str(tmp_path / "bin"), "")
    assert "\n" not in caught.value.message
    assert len(caught.value.message.encode()) <= 400


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def wait_for(condition, *, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_takes_too_long_ends_with_its_worker_and_its_files(record, tmp_path, monkeypatch):
    monkeypatch.setenv("SLOW", "1")
    with LabelPool(config("orca", tmp_path), workers=1) as pool:
        (outcome,) = pool.label([frame("H2O")], time_limit_s=2.0)
    assert outcome.reason is LabelReason.TIME_LIMIT
    (pid,) = [int(folder.name) for folder in record.iterdir()]
    ((_, folder),) = calls(record)
    wait_for(lambda: not is_running(pid), seconds=10.0)
    assert not folder.exists()


PARENT = """
    import sys
    sys.path.insert(0, {here!r})
    from pathlib import Path
    from ase_programs import config, frame
    from labelers import LabelPool

    with LabelPool(config("orca", Path({folder!r})), workers=1) as pool:
        pool.label([frame("H2O")], time_limit_s=600.0)
"""


def test_a_program_ends_with_al_engine_even_if_that_is_killed(record, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT).format(here=str(Path(__file__).parents[2]), folder=str(tmp_path)))
    with subprocess.Popen([sys.executable, str(script)], env={**os.environ, "SLOW": "1"}) as parent:
        wait_for(lambda: list(record.glob("*/ran-in")), seconds=60.0)
        (pid,) = [int(folder.name) for folder in record.iterdir()]
        assert is_running(pid)
        parent.kill()
    wait_for(lambda: not is_running(pid), seconds=10.0)


# -- how a program is named ------------------------------------------------------------------------------------------


def orca(**parameters):
    return LabelsConfig(
        backend="ase", ase_calculator="orca", ase_parameters={"orcasimpleinput": "HF EnGrad", **parameters}
    )


def test_ase_s_configuration_file_names_it(record, tmp_path, monkeypatch):
    (tmp_path / "ase.ini").write_text(f"[orca]\ncommand = {command('orca')}\n")
    monkeypatch.setenv("ASE_CONFIG_PATH", str(tmp_path / "ase.ini"))
    with LabelPool(orca(), workers=1) as pool:
        pool.check(frame("H2O"))
        (outcome,) = pool.label([frame("H2O")], time_limit_s=60.0)
    assert outcome.ok, outcome.message
    assert len(calls(record)) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (orca(), r"No configuration of 'orca'.*profile: \{command: .*config.ini"),
        (orca(profile={"command": "/nowhere/orca"}), "'/nowhere/orca', is not installed"),
        (orca(profile={"command": "bin/orca"}), "relative path.*full path"),
        (orca(profile={"commnd": "orca"}), "ase_parameters.*commnd"),
        (orca(profile={"command": STAND_IN}, orcasimpleinput="HF"), "put `EnGrad` into `orcasimpleinput`"),
        (orca(profile={"command": STAND_IN}, directory=3), "ase_parameters.directory: got 3"),
        (LabelsConfig(backend="ase", ase_calculator="siesta"), "'siesta'.*(not installed|No configuration)"),
        (
            LabelsConfig(backend="ase", ase_calculator="gaussian", ase_parameters={"command": "nowhere < PREFIX.com"}),
            "'nowhere', is not installed",
        ),
        (
            LabelsConfig(backend="ase", ase_calculator="vasp", ase_parameters={"xc": "PBE"}),
            r"'vasp' does not know its program .* labels.ase_parameters.command: /path/to/program",
        ),
        (
            LabelsConfig(backend="ase", ase_calculator="vasp", ase_parameters={"command": "mpirun-of-nobody vasp_std"}),
            "'mpirun-of-nobody', is not installed",
        ),
        (LabelsConfig(backend="ase", ase_calculator="psi4"), "needs a package that is not installed"),
        (LabelsConfig(backend="ase", ase_calculator="turbomole"), "current folder"),
    ],
    ids=lambda value: value.ase_calculator if isinstance(value, LabelsConfig) else value[:20],
)
def test_a_program_that_can_t_be_started_is_reported_before_the_first_label(settings, words, monkeypatch, tmp_path):
    monkeypatch.setenv("ASE_CONFIG_PATH", str(tmp_path / "none.ini"))
    with LabelPool(settings, workers=1) as pool, pytest.raises(InputError) as caught:
        pool.check(frame("H2O"))
    assert re.search(words, str(caught.value))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "start", ["OMP_NUM_THREADS=2 g16", "ulimit -s unlimited; g16", "$GAUSS_EXE", "(g16)", "exec g16"]
)
def test_a_shell_s_own_constructions_are_left_to_the_shell(start):
    parameters = {"command": f"{start} < PREFIX.com > PREFIX.log"}
    create_labeler(LabelsConfig(backend="ase", ase_calculator="gaussian", ase_parameters=parameters))


def test_a_label_writes_no_file_into_the_current_folder(record, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for program in PROGRAMS:
        label(program, tmp_path, frame("H2O", boxed=program == "espresso"))
    assert list(here.iterdir()) == []
    assert len(list(record.iterdir())) == len(PROGRAMS)
