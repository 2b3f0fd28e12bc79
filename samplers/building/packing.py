"""Packing of many molecules, of one kind or several, without overlaps, by Packmol.

Method: L. Martínez et al., J. Comput. Chem. 30, 2157 (2009).
"""

import itertools
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from al_engine.errors import InputError
from al_engine.structures.elements import LAST_ELEMENT, atomic_masses
from al_engine.structures.frames import FloatArray, IntArray
from samplers.building.molecules import Molecule

_VDW_SHARE = 0.75
"""Contact radius of an atom as a fraction of its van der Waals radius."""
_SMALLEST_RADIUS_ANG = 1.0
"""Smallest contact radius, Å. It keeps hydrogen atoms of different molecules 2 Å apart."""
_UNKNOWN_VDW_ANG = 2.0
"""Van der Waals radius of elements without a tabulated radius, Å."""
_BOX_CONTACT_SCALES = (1.0, 0.9)
"""Factors on the contact radii in a box, tried in order. Dense liquids need 0.9; the minimisation before classical MD
removes the closer contacts."""
_OWN_IMAGE_SCALE = 0.7
"""Factor on the contact radii for a molecule and its own periodic image: two hydrogen atoms are at least 1.4 Å apart.
The minimisation before classical MD removes such contacts."""
_SPHERE_GROWTH = 1.08
"""Ratio of the radii of two successive spheres."""
_SPHERE_ATTEMPTS = 40
"""Largest number of spheres that are tried."""
_TIME_LIMIT_S = 600.0
"""Longest run of Packmol, s."""
_PACKMOL_FOUND_NONE = 173
"""Packmol's exit status if molecules still overlap after all its attempts. Its best attempt, which it writes, is not
used."""
AMU_PER_ANG3_IN_G_PER_CM3 = 1.66053904
"""1 amu/Å³ in g/cm³."""

Kinds: TypeAlias = Sequence[tuple[Molecule, int]]
"""The molecules that a copy consists of and that are packed separately, and the number of each in a copy."""


def contact_radii(numbers: IntArray) -> FloatArray:
    """Contact radii of atoms in Å, shape (n,). Two atoms of different molecules are at least their sum apart.

    The radii are `_VDW_SHARE` times the van der Waals radii of S. Alvarez, Dalton Trans. 42, 8617 (2013), as tabulated
    in ASE, and at least `_SMALLEST_RADIUS_ANG`.
    """
    from ase.data.vdw_alvarez import vdw_radii

    padded = np.full(LAST_ELEMENT + 1, _UNKNOWN_VDW_ANG)
    known = np.flatnonzero(np.isfinite(vdw_radii))
    padded[known] = vdw_radii[known]
    radii: FloatArray = np.maximum(_SMALLEST_RADIUS_ANG, _VDW_SHARE * padded[np.asarray(numbers)])
    return radii


def pack_cluster(molecule: Molecule, count: int, *, seed: int) -> FloatArray:
    """Pack copies of a molecule into a compact cluster; the molecules of a mixture are packed separately.

    A single copy of a molecule that is not a mixture is only centred.

    Args:
        molecule: The molecule, of n atoms.
        count: Number of copies.
        seed: Seed of the packing.

    Returns:
        Positions in Å, shape (count * n, 3), copy after copy, centred on the origin.

    Raises:
        InputError: As `packed_in_sphere`.
    """
    if count == 1 and not molecule.components:
        centred: FloatArray = molecule.positions - molecule.positions.mean(axis=0)
        return centred
    return packed_in_sphere(_kinds(molecule), count, seed=seed, source=molecule.source)


def packed_in_sphere(kinds: Kinds, copies: int, *, seed: int, source: str) -> FloatArray:
    """Pack molecules into a sphere, the smallest of a series of growing spheres in which they do not overlap.

    Args:
        kinds: The molecules, and the number of each in a copy.
        copies: Number of copies.
        seed: Seed of the packing.
        source: Name of a copy in messages.

    Returns:
        Positions in Å, shape (N, 3), copy after copy, and in each copy molecule after molecule; centred on the origin.

    Raises:
        InputError: If no sphere of the series holds the molecules, or Packmol fails.
    """
    radii = [contact_radii(molecule.numbers) for molecule, _ in kinds]
    # distance of each atom's contact sphere from the centre of its molecule
    reach = [
        np.linalg.norm(_centred(molecule), axis=1) + contact
        for (molecule, _), contact in zip(kinds, radii, strict=True)
    ]
    cubes = copies * sum(number * float((contact**3).sum()) for (_, number), contact in zip(kinds, radii, strict=True))
    # The first sphere holds each molecule, and has at least twice the volume of all contact spheres.
    radius = max(*(float(distances.max()) for distances in reach), float((2.0 * cubes) ** (1 / 3)))
    for _ in range(_SPHERE_ATTEMPTS):
        region = f"inside sphere 0. 0. 0. {radius:.4f}"
        packed = _packmol(kinds, copies, radii=radii, region=region, seed=seed, source=source)
        if packed is not None:
            centre: FloatArray = packed.mean(axis=0)
            return packed - centre
        radius *= _SPHERE_GROWTH
    raise InputError(
        f"can't pack {copies} copies of {source} into a cluster; name a structure file of the whole cluster in "
        "system.structure instead"
    )


def _kinds(molecule: Molecule) -> Kinds:
    """The components of a mixture, or the molecule itself, and the number of each in a copy."""
    return molecule.components or ((molecule, 1),)


def _centred(molecule: Molecule) -> FloatArray:
    """Positions of a molecule relative to the mean position of its atoms, Å."""
    centred: FloatArray = molecule.positions - molecule.positions.mean(axis=0)
    return centred


def pack_box(molecule: Molecule, count: int, *, density_g_per_cm3: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Pack copies of a molecule into a cubic periodic box; the molecules of a mixture are packed separately.

    Args:
        molecule: The molecule, of n atoms.
        count: Number of copies.
        density_g_per_cm3: Density of the box, g/cm³.
        seed: Seed of the packing.

    Returns:
        Positions in Å, shape (count * n, 3), copy after copy, each molecule whole; and cell vectors in Å, shape (3, 3).

    Raises:
        InputError: If the copies do not fit at this density, or Packmol fails.
    """
    mass = count * float(atomic_masses(molecule.numbers).sum())
    side = float((mass * AMU_PER_ANG3_IN_G_PER_CM3 / density_g_per_cm3) ** (1 / 3))
    kinds = _kinds(molecule)
    for scale in _BOX_CONTACT_SCALES:
        packed = _packmol(
            kinds,
            count,
            radii=[scale * contact_radii(kind.numbers) for kind, _ in kinds],
            region="",
            header=[f"pbc {side:.6f} {side:.6f} {side:.6f}"],
            seed=seed,
            source=molecule.source,
        )
        # Packmol does not see that a molecule overlaps its own periodic image
        if packed is not None and not _overlaps_itself(packed, kinds, count, side=side):
            return packed, np.eye(3) * side
    raise InputError(
        f"{count} x {molecule.source} at system.density_g_per_cm3: {density_g_per_cm3:g} is a box of {side:.2f} Å in "
        "which molecules overlap; lower the density or take more molecules"
    )


def _overlaps_itself(positions: FloatArray, kinds: Kinds, copies: int, *, side: float) -> bool:
    """Whether a molecule is too close to its own periodic image.

    Args:
        positions: Positions of copy after copy in Å, each with the molecules of all kinds.
        kinds: The molecules, and the number of each in a copy.
        copies: Number of copies.
        side: Side of the cubic box, Å.
    """
    from scipy.spatial.distance import cdist

    shifts = side * np.array(list(itertools.product((-1, 0, 1), repeat=3)))[:13]  # the others are their opposites
    start = 0
    for kind, number in [*kinds] * copies:
        radii = _OWN_IMAGE_SCALE * contact_radii(kind.numbers)
        end = start + number * len(kind)
        extent = 2.0 * float(np.linalg.norm(_centred(kind), axis=1).max())
        if extent + 2.0 * radii.max() > side:  # otherwise no image can be near
            contacts = radii[:, None] + radii
            for own in positions[start:end].reshape(number, -1, 3):
                if any((cdist(own, own + shift) < contacts).any() for shift in shifts):
                    return True
        start = end
    return False


def _packmol(
    kinds: Kinds,
    copies: int,
    *,
    radii: Sequence[FloatArray],
    region: str,
    seed: int,
    source: str,
    header: Sequence[str] = (),
) -> FloatArray | None:
    """Run Packmol.

    Args:
        kinds: The molecules, and the number of each in a copy.
        copies: Number of copies.
        radii: Contact radii of the atoms of each kind of molecule, Å.
        region: Packmol's constraint on all molecules; empty for none.
        seed: Seed of the packing.
        source: Name of a copy in messages.
        header: Lines at the beginning of Packmol's input.

    Returns:
        The packed positions in Å, shape (N, 3), copy after copy, and in each copy molecule after molecule; None if
        Packmol found no packing, or took too long.

    Raises:
        InputError: If Packmol fails or is missing.
    """
    lines = [
        f"tolerance {2.0 * min(float(contact.min()) for contact in radii):.6f}",
        "filetype xyz",
        "output packed.xyz",
        f"seed {seed % (2**31 - 1) + 1}",
        "nloop 60",
        *header,
    ]
    for index, ((_, number), contact) in enumerate(zip(kinds, radii, strict=True)):
        lines += [
            f"structure molecule{index}.xyz",
            f"  number {copies * number}",
            *([f"  {region}"] if region else []),
        ]
        for radius in np.unique(contact):
            atoms = " ".join(str(i + 1) for i in np.flatnonzero(contact == radius))
            lines += [f"  atoms {atoms}", f"    radius {radius:.6f}", "  end atoms"]
        lines += ["end structure", ""]
    with tempfile.TemporaryDirectory(prefix="packmol-") as folder:
        Path(folder, "packing.inp").write_text("\n".join(lines), encoding="ascii")
        for index, (molecule, _) in enumerate(kinds):
            Path(folder, f"molecule{index}.xyz").write_text(_xyz(molecule), encoding="ascii")
        try:
            done = subprocess.run(  # noqa: S603 -- our own input to a binary found by its package
                [_packmol_binary(), "-i", "packing.inp"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=_TIME_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode == _PACKMOL_FOUND_NONE:
            return None
        packed = Path(folder, "packed.xyz")
        if done.returncode != 0 or not packed.is_file():
            last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise InputError(f"Packmol failed on {copies} x {source} with status {done.returncode}: {last}")
        rows = packed.read_text(encoding="ascii").splitlines()[2:]
    positions = np.array([[float(value) for value in row.split()[1:4]] for row in rows])
    # Packmol writes all molecules of the first kind, then all of the second; here copy comes after copy.
    ends = np.cumsum([copies * number * len(molecule) for molecule, number in kinds])[:-1]
    by_kind = [block.reshape(copies, -1, 3) for block in np.split(positions, ends)]
    ordered: FloatArray = np.concatenate(by_kind, axis=1).reshape(-1, 3)
    return ordered


def _xyz(molecule: Molecule) -> str:
    """The molecule in XYZ format. Every element is `X`, because Packmol does not need the elements."""
    rows = [f"X {x:.10f} {y:.10f} {z:.10f}" for x, y, z in molecule.positions.tolist()]
    return "\n".join([str(len(rows)), "", *rows, ""])


def _packmol_binary() -> str:
    """Path of Packmol's binary, which its Python package installs.

    Raises:
        InputError: If the package has no binary for this machine.
    """
    from packmol.cli import get_binary_path

    try:
        return str(get_binary_path())
    except FileNotFoundError as error:
        raise InputError(
            "the package packmol has no binary for this machine; `pip install --force-reinstall packmol`"
        ) from error
