"""Seals: damage anywhere in a file is found, and before HDF5 sees the file."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_engine.errors import LedgerError
from al_engine.files.part_file import content_hash, open_part, write_part
from al_engine.files.seal import SEAL_BYTES, SealState, check_seal, seal_file, seal_of


@pytest.fixture(params=[False, True], ids=["in memory", "streamed"])
def part(request, tmp_path):
    path = tmp_path / "part.h5"
    with write_part(path, kind="test", key="0" * 64, streamed=request.param) as root:
        root["group/numbers"] = np.arange(300.0)
        root["text"] = "a word"
    return path


def test_what_is_written_is_sealed_and_a_usual_hdf5_file(part):
    assert check_seal(part) is SealState.WHOLE
    with h5py.File(part) as root:
        assert root["group/numbers"][-1] == 299.0


def test_every_flipped_byte_is_found(part):
    """HDF5 alone crashes on some of them, and takes others for what was written."""
    content = part.read_bytes()
    for place in range(0, len(content), 7):
        part.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        assert check_seal(part) is not SealState.WHOLE
        if place < len(content) - SEAL_BYTES:
            with (
                pytest.raises(LedgerError, match="its bytes are not those that were written"),
                open_part(part, verify=True),
            ):
                pass


@pytest.mark.parametrize("missing", [1, SEAL_BYTES - 1, SEAL_BYTES, SEAL_BYTES + 1, 1000])
def test_a_part_that_was_cut_off_is_refused(part, missing):
    part.write_bytes(part.read_bytes()[:-missing])
    assert check_seal(part) is not SealState.WHOLE
    with pytest.raises(LedgerError, match=r"part\.h5: "), open_part(part, verify=True):
        pass


def test_a_part_older_than_seals_is_checked_by_its_content(part, tmp_path):
    old = tmp_path / "old.h5"
    with h5py.File(part) as source, h5py.File(old, "w") as root:
        source.copy("group", root)
        source.copy("text", root)
        root.attrs.update(schema_version=1, kind="test", key="0" * 64)
        root.attrs["content_hash"] = content_hash(root)
    assert check_seal(old) is SealState.ABSENT
    with open_part(old, verify=True) as root:
        assert root.attrs["schema_version"] == 1
    with h5py.File(old, "r+") as root:
        root["group/numbers"][0] = 1.0
    with (
        pytest.raises(LedgerError, match="its content is not the content that was written"),
        open_part(old, verify=True),
    ):
        pass


@given(content=st.binary(max_size=3000))
def test_a_seal_fits_its_content_alone(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("seal") / "file"
    path.write_bytes(content)
    assert check_seal(path) is SealState.ABSENT
    seal_file(path)
    assert path.read_bytes() == content + seal_of(content)
    assert check_seal(path) is SealState.WHOLE
    path.write_bytes(content + b"x" + seal_of(content))
    assert check_seal(path) is SealState.BROKEN


def resealed(path):
    """Seal a file that was changed by hand, as somebody might who wants it to be believed."""
    seal_file(path)


def link_to(target):
    return lambda root: root.__setitem__("link", target)


TRICKS = {
    "a link to another file": link_to(h5py.ExternalLink("/etc/passwd", "/")),
    "a link to another name": link_to(h5py.SoftLink("/group/numbers")),
    "data in another file": lambda root: root.create_dataset("x", (3,), "f8", external="/dev/zero"),
    "data of which there is none": lambda root: root.create_dataset("x", (10**12,), "f8", chunks=(10**6,)),
}


@pytest.mark.parametrize("what", TRICKS)
def test_a_part_that_reaches_outside_itself_is_refused(what, part):
    with h5py.File(part, "r+") as root:
        TRICKS[what](root)
    resealed(part)
    assert check_seal(part) is SealState.WHOLE
    with pytest.raises(LedgerError, match="do not trust this file"), open_part(part, verify=True):
        pass
