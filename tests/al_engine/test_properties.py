"""What holds for all frames and all configs, on whatever hypothesis makes up: store, hash, text."""

import io
import json
import math

import annotated_types
import h5py
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import BaseModel

from al_engine.config import CampaignConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import differences, parse_config, validate_config
from al_engine.config.writer import config_text
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frame_hashes, read_frames, read_labelled, write_labelled
from al_engine.structures.frames import Frame, LabelledFrame

COORDINATE = st.floats(allow_nan=True, allow_infinity=True, width=64)
FIELDS = ("numbers", "positions", "cell", "pbc", "charge", "unpaired_electrons")
checked = settings(deadline=None, derandomize=True, database=None, max_examples=60)


@st.composite
def frames(draw):
    """Any frame that can be made at all, an empty one and one of NaNs among them."""
    n_atoms = draw(st.integers(0, 5))
    return Frame(
        numbers=draw(arrays(np.int64, n_atoms, elements=st.integers(0, 200))),
        positions=draw(arrays(np.float64, (n_atoms, 3), elements=COORDINATE)),
        cell=draw(arrays(np.float64, (3, 3), elements=COORDINATE)),
        pbc=draw(arrays(np.bool_, 3)),
        charge=draw(st.integers(-(2**31), 2**31)),
        unpaired_electrons=draw(st.integers(0, 2**31)),
    )


@st.composite
def labelled_frames(draw):
    frame = draw(frames())
    forces = draw(arrays(np.float64, (len(frame), 3), elements=COORDINATE))
    return LabelledFrame(frame, draw(COORDINATE), forces)


def assert_same(a, b):
    """Equal bit for bit: NaN is NaN, and zero keeps its sign."""
    for name in FIELDS:
        left, right = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        assert (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes()), name


@checked
@given(st.lists(labelled_frames(), max_size=6), st.data())
def test_what_is_stored_comes_back_bit_for_bit(stored, data):
    with h5py.File(io.BytesIO(), "w") as file:
        write_labelled(file.create_group("labelled"), stored)
        back = read_labelled(file["labelled"])
        rows = data.draw(st.lists(st.integers(0, len(stored) - 1), max_size=4)) if stored else []
        some = read_frames(file["labelled"], rows=rows)
        hashes = read_frame_hashes(file["labelled"])
    assert len(back) == len(stored)
    for before, after in zip(stored, back, strict=True):
        assert_same(before.frame, after.frame)
        assert np.float64(before.energy).tobytes() == np.float64(after.energy).tobytes()
        assert before.forces.tobytes() == after.forces.tobytes()
    for row, frame in zip(rows, some, strict=True):
        assert_same(stored[row].frame, frame)
    assert hashes == b"".join(bytes.fromhex(item.content_hash()) for item in stored)


@checked
@given(labelled_frames(), st.data())
def test_the_hash_sees_every_change_and_nothing_else(item, data):
    again = LabelledFrame(Frame(**{name: getattr(item.frame, name) for name in FIELDS}), item.energy, item.forces)
    assert again.content_hash() == item.content_hash()
    name = data.draw(st.sampled_from([*FIELDS, "energy", "forces"]))
    values = {"energy": item.energy, "forces": item.forces, **{field: getattr(item.frame, field) for field in FIELDS}}
    value = np.array(values[name])
    assume(value.size > 0)
    flat = value.reshape(-1)
    place = data.draw(st.integers(0, flat.size - 1))
    if flat.dtype == bool:
        flat[place] = not flat[place]
    elif flat.dtype == np.int64:
        flat[place] += 1
    else:
        old, flat[place] = flat[place], data.draw(st.floats(allow_nan=False))
        assume(not (old == flat[place] or math.isnan(old)))
    values[name] = flat.reshape(value.shape)
    changed = LabelledFrame(
        Frame(**{field: values[field] for field in FIELDS}), float(values["energy"]), values["forces"]
    )
    assert changed.content_hash() != item.content_hash()


def leaves(section, prefix=()):
    """Every option of a section with its path and the constraints on it."""
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*prefix, name))
        else:
            yield (*prefix, name), value, info


def other_value(value, info):
    """Values of an option that its type and its bounds allow."""
    low, high = -1e6, 1e6
    for bound in info.metadata:
        if isinstance(bound, annotated_types.Ge | annotated_types.Gt):
            low = max(low, getattr(bound, "ge", getattr(bound, "gt", low)))
        elif isinstance(bound, annotated_types.Le | annotated_types.Lt):
            high = min(high, getattr(bound, "le", getattr(bound, "lt", high)))
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.integers(math.ceil(low), math.floor(high))
    if isinstance(value, float):
        return st.floats(low, high, allow_nan=False)
    if isinstance(value, str):
        return st.text(max_size=30)
    return st.just(value)


DEFAULT = validate_config(merged({"name": "x", "system": {"smiles": "CCO"}}, PRESETS["quick"]), source="test")


@settings(checked, max_examples=80)
@given(st.data())
def test_every_config_reads_back_from_its_text_and_its_json(data):
    options = list(leaves(DEFAULT))
    changes = {}
    for path, value, info in data.draw(st.lists(st.sampled_from(options), max_size=4, unique_by=lambda x: x[0])):
        nested = data.draw(other_value(value, info))
        for name in reversed(path):
            nested = {name: nested}
        changes = merged(changes, nested)
    try:
        config = validate_config(merged(DEFAULT.model_dump(mode="json"), changes), source="made up")
    except InputError:
        assume(condition=False)  # options that contradict each other
    for again in (
        parse_config(config_text(config), source="text"),
        CampaignConfig.model_validate(json.loads(config.model_dump_json())),
    ):
        assert again == config
        assert differences(config, again) == {}
