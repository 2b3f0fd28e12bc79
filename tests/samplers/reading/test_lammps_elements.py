"""Elements of the types in LAMMPS files come from the user or from masses that leave no doubt."""

import pytest
from written_files import written

from al_engine.errors import InputError
from samplers.reading.structure_files import read_structures

DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
3
ITEM: BOX BOUNDS pp pp pp
0 10
0 10
0 10
ITEM: ATOMS id {} x y z
"""


def test_types_of_a_lammps_dump_need_elements(tmp_path):
    text = DUMP.format("type") + "1 2 1 1 1\n2 1 1.96 1 1\n3 1 0.76 1.93 1\n"
    path = written(tmp_path, text * 2, "in.dump")
    with pytest.raises(InputError, match=r"types 1, 2; .* system\.elements: \{1: \?, 2: \?\}"):
        read_structures(path)
    found = read_structures(path, elements={"1": "H", "2": "O"})
    assert [structure.frame.numbers.tolist() for structure in found] == [[8, 1, 1]] * 2
    named = DUMP.format("element") + "1 OW 1 1 1\n2 H 1.96 1 1\n3 H 0.76 1.93 1\n"
    with pytest.raises(InputError, match="OW"):
        read_structures(written(tmp_path, named, "named.dump"))
    (structure,) = read_structures(tmp_path / "named.dump", elements={"OW": "O"})
    assert structure.frame.numbers.tolist() == [8, 1, 1]
    labels = DUMP.format("type") + "1 OW 1 1 1\n2 H 1.96 1 1\n3 H 0.76 1.93 1\n"
    with pytest.raises(InputError, match=r"`type` has H, OW.* name the column `element`"):
        read_structures(written(tmp_path, labels, "labels.dump"), elements={"OW": "O", "H": "H"})


DATA = """water

3 atoms
2 atom types

0 10 xlo xhi
0 10 ylo yhi
0 10 zlo zhi

{}Atoms # atomic

1 2 1 1 1
2 1 1.96 1 1
3 1 0.76 1.93 1
"""


def test_types_of_a_lammps_data_file_get_elements_from_their_masses_or_the_user(tmp_path):
    (structure,) = read_structures(written(tmp_path, DATA.format("Masses\n\n1 1.008\n2 15.999\n\n"), "in.data"))
    assert structure.frame.numbers.tolist() == [8, 1, 1]
    for masses in ("", "Masses\n\n1 1.008\n2 15.035\n\n"):  # a united CH3 is neither N nor O
        path = written(tmp_path, DATA.format(masses), "in.data")
        with pytest.raises(InputError, match="types"):
            read_structures(path)
    with pytest.raises(InputError, match="the mass of type 2 is `heavy`"):
        read_structures(written(tmp_path, DATA.format("Masses\n\n1 1.008\n2 heavy\n\n"), "in.data"))
    with pytest.raises(InputError, match="types"):  # a rounded Ar or Ca
        read_structures(written(tmp_path, DATA.format("Masses\n\n1 1.008\n2 40.0\n\n"), "in.data"))
    path = written(tmp_path, DATA.format(""), "in.data")
    assert read_structures(path, elements={"1": "H", "2": "O"})[0].frame.numbers.tolist() == [8, 1, 1]
