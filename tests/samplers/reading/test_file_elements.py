"""Elements of files with atom names, types or labels: unambiguous names are read, others need `system.elements`."""

import gzip

import numpy as np
import pytest
from written_files import written, xyz

from al_engine.errors import InputError
from samplers.reading.structure_files import read_structures

# -- elements ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["C1 0 0 0", "O2 1.1 0 0"], r"line 3: .*atoms named C1, O2; .* system\.elements: \{C1: \?, O2: \?\}"),
        (["6 0 0 0", "8 1.1 0 0"], r"line 3: .*atoms named 6"),
        (["O 0 0 0", "D 0.96 0 0", "D -0.24 0.93 0"], r"line 4: 'D' is an isotope of hydrogen.* write H"),
        (["O 0 0 0", "H 0.96 0 0", "T -0.24 0.93 0"], r"line 5: 'T' is an isotope"),
        (["O 0 0 0", "H 0.96 0 0", "Bq -0.24 0.93 0"], r"line 5: 'Bq' is a ghost"),
        (["O 0 0 0", "H 0.96 0 0", "Xx -0.24 0.93 0"], r"line 5: 'Xx' is a ghost"),
        (["OW 0 0 0", "HW 0.96 0 0"], r"atoms named OW"),
        (["CA 0 0 0", "HG 1.1 0 0"], r"atoms named CA, HG; .* system\.elements: \{CA: \?, HG: \?\}"),
    ],
)
def test_labels_that_are_no_elements_are_refused_by_line(tmp_path, rows, says):
    with pytest.raises(InputError, match=says):
        read_structures(written(tmp_path, xyz(rows)))


@pytest.mark.parametrize("rows", [["o 0 0 0", "h 0.96 0 0"], ["CL 0 0 0", "h 1.3 0 0"], ["cl 0 0 0", "H 1.3 0 0"]])
def test_symbols_in_any_case_are_elements(tmp_path, rows):
    (structure,) = read_structures(written(tmp_path, xyz(rows)))
    assert structure.frame.numbers[0] in (8, 17)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_elements_given_by_the_user_are_used(tmp_path, suffix):
    text = xyz(["OW 0 0 0", "HW1 0.96 0 0", "HW2 -0.24 0.93 0"])
    path = tmp_path / f"in.xyz{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
    (structure,) = read_structures(path, elements={"OW": "O", "HW1": "H", "HW2": "H"})
    assert structure.frame.numbers.tolist() == [8, 1, 1]
    with pytest.raises(InputError, match="'Qq', given for 'OW', is not an element"):
        read_structures(path, elements={"OW": "Qq", "HW1": "H", "HW2": "H"})


def gro(names, box="3.0 3.0 3.0", precision=3):
    rows = []
    for k, name in enumerate(names):
        places = "".join(f"{0.1 * (k + c):{precision + 5}.{precision}f}" for c in range(3))
        rows.append(f"{1:5d}{'DCM':<5s}{name:>5s}{k + 1:5d}{places}")
    return "\n".join(["title", f"{len(names):5d}", *rows, box, ""])


def test_a_gro_file_has_no_elements(tmp_path):
    path = written(tmp_path, gro(["C1", "CL1", "CL2", "H1", "H2"]), "in.gro")
    with pytest.raises(InputError, match=r"atoms named CL1, CL2; .*\{CL1: \?, CL2: \?\}"):
        read_structures(path)
    (structure,) = read_structures(path, elements={"CL1": "Cl", "CL2": "Cl"})
    assert structure.frame.numbers.tolist() == [6, 17, 17, 1, 1]
    np.testing.assert_allclose(structure.frame.cell, 30.0 * np.eye(3))
    np.testing.assert_allclose(structure.frame.positions[1], [1.0, 2.0, 3.0])
    for bead in (["W"], ["OW", "HW1", "HW2"], ["CA"], ["BR"]):
        with pytest.raises(InputError, match="no elements"):
            read_structures(written(tmp_path, gro(bead), "bead.gro"))


@pytest.mark.parametrize("precision", [3, 6])
def test_a_gro_trajectory_has_all_its_frames_at_any_precision(tmp_path, precision):
    text = gro(["O", "H1", "H2"], precision=precision) * 3
    found = read_structures(written(tmp_path, text, "in.gro"))
    assert len(found) == 3
    np.testing.assert_allclose(found[2].frame.positions[2], [2.0, 3.0, 4.0])
