"""A labeler whose forces are not the derivative of its energies stops a campaign before anything is trained."""

import json
import re
import shutil

import pytest
from flow_runs import SMALLER
from stage_runs import begun

from al_engine.campaign import names
from al_engine.config.reader import load_config
from al_engine.errors import InputError
from al_engine.files.part_file import open_part
from flows.stages.labels import labelling

LABELS = "labels: {backend: tblite, chunk_frames: 20}\n"
FAULTY = SMALLER.replace(
    LABELS,
    "labels: {backend: ase, ase_calculator: 'faulty_calculator:FaultyTBLite', ase_parameters: {verbosity: 0}}\n",
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a campaign that was stopped by the check, and the message."""
    folder = tmp_path_factory.mktemp("faulty")
    with pytest.raises(InputError, match="not the derivative of its energies") as caught, begun(folder, FAULTY):
        pass
    return folder, str(caught.value)


def test_a_wrong_force_stops_the_campaign_with_atom_and_numbers(stopped):
    folder, message = stopped
    force, difference = (float(number) for number in re.findall(r"(-?\d+\.\d+) eV/Å", message))
    assert "atom 2 (H), the y component" in message
    assert force - difference == pytest.approx(0.25, abs=2e-3)
    assert "labels.force_check.tolerance_mev_per_ang" in message
    assert not list((folder / "parts").glob("*-labels-*.h5"))


@pytest.mark.parametrize("option", ["frames: 0", "tolerance_mev_per_ang: 400"])
def test_what_the_message_advises_can_be_done_in_the_campaign_that_was_stopped(stopped, tmp_path, option):
    shutil.copytree(stopped[0], tmp_path, dirs_exist_ok=True)
    name, value = option.split(": ")
    config = tmp_path / "campaign.yaml"
    config.write_text(re.sub(rf"^    {name}: .*", f"    {name}: {value}", config.read_text(), flags=re.MULTILINE))
    assert getattr(load_config(config).labels.force_check, name) == float(value)
    with begun(tmp_path, config.read_text()) as campaign:
        assert campaign.ledger.dataset_size() > 0


def test_first_frames_and_one_of_each_iteration_are_checked_and_recorded(finished):
    _, directory, result = finished
    checks = {}
    for path in sorted((directory / "parts").glob("*-labels-*.h5")):
        with open_part(path) as root:
            checks[path.stem] = json.loads(root.attrs.get("force_check", "null"))
    assert checks["initial-labels-00001-00020"]["frames"] == 3
    assert checks["initial-labels-00021-00032"] is None
    assert checks["iter000-labels-00001-00010"]["frames"] == 1
    assert all(check["worst_mev_per_ang"] < 3.0 for check in checks.values() if check)
    assert "forces on 3 of them equal finite differences of energies within" in result.stderr


def test_energies_of_a_check_are_kept_so_that_a_kill_loses_none(tmp_path):
    with begun(tmp_path, SMALLER) as campaign:
        stage = labelling.plan(campaign.ledger, campaign.level, names.INITIAL_FRAMES, 1, 20)
        chunk = next((tmp_path / "parts").glob("initial-labels-00001-*.h5"))
        chunk.unlink()
        campaign.run(stage)
        with open_part(chunk) as root:
            first = root.attrs["force_check"]
        chunk.unlink()

        class NoPool:
            def label(self, frames, **_):
                assert not frames
                return []

        campaign.label_pool = NoPool()
        campaign.run(stage)
        with open_part(chunk) as root:
            assert root.attrs["force_check"] == first
