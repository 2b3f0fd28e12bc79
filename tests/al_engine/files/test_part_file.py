"""Parts: all or nothing, keys, content hashes, and every way a file can be wrong."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from al_engine.errors import LedgerError
from al_engine.files.part_file import adopt_part, content_hash, open_part, part_key, write_part

HOLD_OPEN = """
import sys, h5py
with h5py.File(sys.argv[1], "r+"):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def part(tmp_path):
    path = tmp_path / "iter000-member0.h5"
    with write_part(path, kind="member", key="some-key") as root:
        fill(root)
    return path


def fill(root: h5py.Group) -> None:
    values = root.create_dataset("values", data=np.random.default_rng(0).normal(size=(8, 3)))
    values.attrs["unit"] = "eV"
    root["group/numbers"] = np.arange(10)
    root["group/names"] = ["a first name", "a second, longer name"]
    root["group"].attrs["list"] = ["x", "y"]
    root.attrs["record"] = '{"a": 1}'


def hash_of(path, change) -> str:
    with h5py.File(path, "w") as root:
        fill(root)
        change(root)
        return content_hash(root)


# -- writing ----------------------------------------------------------------------------------------------------


def test_a_part_reads_back_and_verifies(part):
    with open_part(part, verify=True) as root:
        np.testing.assert_array_equal(root["values"], np.random.default_rng(0).normal(size=(8, 3)))
        assert (root.attrs["kind"], root.attrs["key"], root.attrs["record"]) == ("member", "some-key", '{"a": 1}')
        assert root.attrs["content_hash"] == content_hash(root)
    with h5py.File(part) as root:  # a plain HDF5 file to everybody else
        assert root["group/names"].asstr()[()].tolist() == ["a first name", "a second, longer name"]


def fetched_part(folder, *, value, key="key"):
    path = folder / "fetched.tmp"
    with write_part(path, kind="a", key=key) as root:
        root["value"] = value
    return path


def test_a_part_of_another_machine_is_published_once(tmp_path):
    path = tmp_path / "a.h5"
    for value in (1, 2):
        adopt_part(fetched_part(tmp_path, value=value), path, kind="a", key="key")
        with open_part(path, verify=True) as root:
            assert root["value"][()] == 1


@pytest.mark.parametrize(
    ("kind", "key", "byte", "message"),
    [
        ("b", "key", 0, "is not the part b with the key key"),
        ("a", "another", 0, "is not the part a"),
        ("a", "key", 1, "not those"),
    ],
)
def test_a_part_of_another_machine_that_is_another_or_damaged_is_not_published(kind, key, byte, message, tmp_path):
    path = fetched_part(tmp_path, value=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= byte
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=message):
        adopt_part(path, tmp_path / "a.h5", kind=kind, key=key)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_job_that_ran_twice_leaves_the_part_that_was_first(streamed, tmp_path):
    """A job was taken for lost and run again on another processor; others have read the first part."""
    path = tmp_path / "a.h5"

    def write(value, key="same", *, once=True):
        with write_part(path, kind="k", key=key, streamed=streamed, once=once) as root:
            root["value"] = value

    def value():
        with open_part(path, verify=True) as root:
            return float(root["value"][()])

    write(1.0)
    first = path.read_bytes()
    write(1.0 + 1e-15)
    assert path.read_bytes() == first
    write(2.0, once=False)  # such as a repair
    assert value() == 2.0
    write(3.0, key="other")
    assert value() == 3.0
    path.write_bytes(path.read_bytes()[:-100])  # a damaged part is replaced
    write(4.0, key="other")
    assert value() == 4.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("a broken pipe")])
def test_an_error_in_the_block_leaves_no_file_and_stays_itself(error, tmp_path):
    def write():
        with write_part(tmp_path / "a.h5", kind="k", key="k") as root:
            root["values"] = np.arange(1000)
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_keeps_the_part_that_was_there(part):
    before = part.read_bytes()
    with pytest.raises(ValueError, match="no"), write_part(part, kind="member", key="other"):
        raise ValueError("no")
    assert part.read_bytes() == before


# -- keys -------------------------------------------------------------------------------------------------------


def test_key_depends_on_all_its_inputs_but_not_on_their_order():
    inputs = {"a": 1, "b": {"c": [1.5, None]}}
    key = part_key("train", inputs, ["h1", "h2"])
    assert part_key("train", {"b": {"c": [1.5, None]}, "a": 1}, ["h1", "h2"]) == key
    others = {
        part_key("sample", inputs, ["h1", "h2"]),
        part_key("train", inputs | {"a": 2}, ["h1", "h2"]),
        part_key("train", inputs | {"a": "1"}, ["h1", "h2"]),
        part_key("train", inputs, ["h2", "h1"]),
        part_key("train", inputs, ["h1"]),
        part_key("train", inputs, ["h1h2"]),
    }
    assert len(others | {key}) == 7


def test_key_refuses_what_has_no_one_meaning():
    with pytest.raises(ValueError, match="not JSON compliant"):
        part_key("train", {"a": float("nan")}, [])


# -- content hashes ---------------------------------------------------------------------------------------------


def test_hash_does_not_depend_on_layout_or_on_how_long_it_took(tmp_path):
    def same(root):
        values = root["values"][()]
        del root["values"], root["group/numbers"]
        root.create_dataset("group/numbers", data=np.arange(10), maxshape=(None,), chunks=(3,))
        copy = root.create_dataset("values", data=values, chunks=(2, 1), compression="gzip", shuffle=True)
        copy.attrs["unit"] = "eV"
        root.attrs.update(seconds=12.5, iteration_seconds=99.0)

    plain = hash_of(tmp_path / "a.h5", lambda _: None)
    assert hash_of(tmp_path / "b.h5", same) == plain
    with h5py.File(tmp_path / "c.h5", "w", libver="latest", track_order=True) as root:
        fill(root)
        assert content_hash(root) == plain


def test_hash_does_not_depend_on_the_process(part):
    """The bytes of variable-length strings in memory are addresses."""
    code = (
        "import sys, h5py\nfrom al_engine.files.part_file import content_hash\n"
        "print(content_hash(h5py.File(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(part)], capture_output=True, text=True, check=True)
    with open_part(part) as root:
        assert root.attrs["content_hash"] == done.stdout.strip()


CHANGES = {
    "a value": lambda root: root["values"].write_direct(np.nextafter(root["values"][()], 9.0)),
    "a string": lambda root: root["group/names"].__setitem__(1, "a second, longer nama"),
    "an attribute": lambda root: root["values"].attrs.__setitem__("unit", "meV"),
    "a list attribute": lambda root: root["group"].attrs.__setitem__("list", ["x", "z"]),
    "an attribute of the root": lambda root: root.attrs.__setitem__("record", "{}"),
    "seconds below the root": lambda root: root["group"].attrs.__setitem__("seconds", 1.0),
    "a name": lambda root: root.move("values", "value"),
    "a new data set": lambda root: root.__setitem__("more", 1),
    "a new group": lambda root: root.create_group("empty"),
    "a missing data set": lambda root: root.__delitem__("group/numbers"),
    "a type": lambda root: _replace(root, "group/numbers", np.arange(10, dtype="u8")),
    "a shape": lambda root: _replace(root, "group/numbers", np.arange(10).reshape(2, 5)),
    "one dimension less": lambda root: _replace(root, "group/numbers", np.int64(3)),
    "one dimension more": lambda root: _replace(root, "group/numbers", np.array([3])),
    "field names": lambda root: _replace(root, "group/numbers", np.zeros(2, dtype=[("a", "f8")])),
    "other field names": lambda root: _replace(root, "group/numbers", np.zeros(2, dtype=[("b", "f8")])),
}


def _replace(root, name, value):
    del root[name]
    root[name] = value


def test_hash_changes_with_everything_in_the_part(tmp_path):
    hashes = {what: hash_of(tmp_path / "a.h5", change) for what, change in CHANGES.items()}
    hashes["nothing"] = hash_of(tmp_path / "a.h5", lambda _: None)
    assert len(set(hashes.values())) == len(CHANGES) + 1


# -- files that are wrong ---------------------------------------------------------------------------------------


def refusal(path, *, verify=False) -> str:
    with pytest.raises(LedgerError) as caught, open_part(path, verify=verify):
        pass
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_missing_part(tmp_path):
    assert "missing; restore it, or resume to compute it again" in refusal(tmp_path / "a.h5")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9])
def test_a_truncated_part(share, part):
    content = part.read_bytes()
    part.write_bytes(content[: int(share * len(content))])
    assert "damaged (" in (message := refusal(part))
    assert "move it away and resume" in message


def test_a_file_of_another_kind(part):
    part.write_text("this is no HDF5 file")
    assert "damaged (" in refusal(part)


def test_another_schema(part):
    with h5py.File(part, "r+") as root:
        root.attrs["schema_version"] = 99
    message = refusal(part)
    assert "schema 99" in message
    assert "written by a newer version of al-engine" in message


def test_an_hdf5_file_that_is_no_part(part):
    with h5py.File(part, "w") as root:
        root["a"] = 1
    assert "has schema None" in refusal(part)


def test_a_part_changed_by_hand(part):
    with h5py.File(part, "r+") as root:
        root["values"][0, 0] = 1.0
    with open_part(part):
        pass
    assert "lacks its seal" in refusal(part, verify=True)


def test_a_lock_that_another_program_holds_or_left_keeps_nobody_from_reading(part):
    command = [sys.executable, "-c", HOLD_OPEN, str(part)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        with open_part(part) as root:
            assert root.attrs["key"] == "some-key"
        holder.stdin.close()


@pytest.mark.parametrize("locking", [None, False, True, "best-effort"])
def test_a_part_is_read_beside_the_users_own_handle_on_it(locking, part):
    """HDF5 refuses to open a file twice in one process with another word on locks."""
    with h5py.File(part, "r", locking=locking), open_part(part) as root:
        assert root.attrs["key"] == "some-key"
