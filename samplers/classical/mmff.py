"""MMFF94 as an OpenMM system, from RDKit's atom types and parameters.

Functional forms: T. A. Halgren, J. Comput. Chem. 17, 490 (1996) (paper I, equations 2-13), with RDKit's constants.
OpenMM's energies are in kJ/mol and its lengths in nm; explicit factors convert them to MMFF94's Å and degrees.
"""

import math
from collections.abc import Iterator
from itertools import combinations, permutations
from typing import Any

import numpy as np

from al_engine.structures.bonds import BondGraph
from al_engine.structures.elements import atomic_masses
from al_engine.structures.frames import FloatArray
from samplers.building.molecules import Molecule

KCAL_IN_KJ = 4.184
_MDYNE_ANG_IN_KCAL = 143.9325
_DEGREE = math.pi / 180.0
_STRETCH_CUBIC = -2.0  # cs, 1/Å
_BEND_CUBIC = -0.006981317  # cb, 1/degree
_COULOMB_KCAL_ANG = 332.0716
_COULOMB_BUFFER_ANG = 0.05
_ONE_FOUR_COULOMB = 0.75
_LINEAR_TYPES = frozenset({4, 42, 53, 61})  # MMFFPROP.PAR, column linh: =C=, -C#, =N=, N#
_LARGEST_CUTOFF_NM = 1.0
_SWITCH_SHARE = 0.9  # fraction of the cut-off at which the switching function starts

_VDW = "eps*(1.07*R/(d+0.07*R))^7*(1.12*R^7/(d^7+0.12*R^7)-2)"
_COULOMB = f"{_COULOMB_KCAL_ANG * KCAL_IN_KJ}*qq/(d+{_COULOMB_BUFFER_ANG})"
_COULOMB_BUFFERING = f"{_COULOMB_KCAL_ANG * KCAL_IN_KJ}*qq*(1/(d+{_COULOMB_BUFFER_ANG})-1/d)"
_COULOMB_OPENMM_KCAL_ANG = 332.06371
"""Coulomb constant of OpenMM's Ewald sum, kcal Å/(mol e²); charges are scaled to obtain MMFF94's constant."""
_EWALD_TOLERANCE = 1e-4


def mmff_properties(molecule: Molecule) -> Any | None:
    """RDKit's MMFF94 atom types and parameters of a molecule; None if MMFF94 has no parameters for it."""
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    if molecule.rdkit is None:
        return None
    with rdBase.BlockLogs():
        return rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule.rdkit)


class _Terms:
    """Topology and MMFF94 parameters of a molecule, and the shifts of the atom indices for each copy."""

    def __init__(self, molecule: Molecule, properties: Any, count: int) -> None:
        self.mol, self.properties = molecule.rdkit, properties
        self.neighbours = [sorted(around) for around in BondGraph(len(molecule), molecule.bonds).neighbours]
        self.bonds = [(int(i), int(j)) for i, j in molecule.bonds]
        self.angles = [(i, j, k) for j, around in enumerate(self.neighbours) for i, k in combinations(around, 2)]
        self.shifts = [copy * len(molecule) for copy in range(count)]

    def type_of(self, atom: int) -> int:
        return int(self.properties.GetMMFFAtomType(atom))

    def is_linear(self, atom: int) -> bool:
        return self.type_of(atom) in _LINEAR_TYPES

    def bond(self, i: int, j: int) -> tuple[float, float]:
        """Force constant (mdyn/Å) and length (Å)."""
        _, constant, length = self.properties.GetMMFFBondStretchParams(self.mol, i, j)
        return constant, length

    def angle(self, i: int, j: int, k: int) -> tuple[float, float]:
        """Force constant (mdyn Å/rad²) and angle (degrees)."""
        _, constant, theta = self.properties.GetMMFFAngleBendParams(self.mol, i, j, k)
        return constant, theta

    def torsions(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the torsions i-j-k-l about every bond j-k whose atoms are each sp2 or sp3, which is RDKit's rule."""
        from rdkit.Chem import HybridizationType

        turning = {HybridizationType.SP2, HybridizationType.SP3}
        for j, k in self.bonds:
            if not all(self.mol.GetAtomWithIdx(a).GetHybridization() in turning for a in (j, k)):
                continue
            for i in self.neighbours[j]:
                for m in self.neighbours[k]:
                    if i != k and m not in (i, j):
                        yield i, j, k, m

    def pairs_by_separation(self) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
        """Pairs of atoms one or two bonds apart (without non-bonded terms), and pairs exactly three bonds apart."""
        near = {tuple(sorted(b)) for b in self.bonds} | {tuple(sorted((i, k))) for i, _, k in self.angles}
        three = {
            tuple(sorted((i, m)))
            for j, k in self.bonds
            for i in self.neighbours[j]
            for m in self.neighbours[k]
            if i != k and m not in (i, j)
        } - near
        return near, three  # type: ignore[return-value] # sorted() of a pair is a pair


def _stretch(terms: _Terms) -> Any:
    """Bond stretching, up to the fourth power of the elongation."""
    import openmm

    force = openmm.CustomBondForce(f"k/2*d^2*(1+cs*d+7/12*cs^2*d^2); d=10*(r-r0); cs={_STRETCH_CUBIC}")
    force.addPerBondParameter("k")
    force.addPerBondParameter("r0")
    for i, j in terms.bonds:
        constant, length = terms.bond(i, j)
        for s in terms.shifts:
            force.addBond(i + s, j + s, [constant * _MDYNE_ANG_IN_KCAL * KCAL_IN_KJ, 0.1 * length])
    return force


def _bends(terms: _Terms) -> list[Any]:
    """Angle bending about bent and about linear atoms."""
    import openmm

    bent = openmm.CustomAngleForce(f"k/2*d^2*(1+{_BEND_CUBIC}*d); d=theta/{_DEGREE}-theta0")
    bent.addPerAngleParameter("k")
    bent.addPerAngleParameter("theta0")
    straight = openmm.CustomAngleForce("k*(1+cos(theta))")
    straight.addPerAngleParameter("k")
    for i, j, k in terms.angles:
        constant, theta = terms.angle(i, j, k)
        scaled = constant * _MDYNE_ANG_IN_KCAL * KCAL_IN_KJ
        for s in terms.shifts:
            if terms.is_linear(j):
                straight.addAngle(i + s, j + s, k + s, [scaled])
            else:
                bent.addAngle(i + s, j + s, k + s, [scaled * _DEGREE**2, theta])
    return [bent, straight]


def _stretch_bend(terms: _Terms) -> Any:
    """Coupling of bond stretching and angle bending."""
    import openmm

    force = openmm.CustomCompoundBondForce(
        3, f"(k1*(10*distance(p1,p2)-r1)+k2*(10*distance(p3,p2)-r2))*(angle(p1,p2,p3)/{_DEGREE}-theta0)"
    )
    for name in ("k1", "r1", "k2", "r2", "theta0"):
        force.addPerBondParameter(name)
    unit = _MDYNE_ANG_IN_KCAL * _DEGREE * KCAL_IN_KJ
    for i, j, k in terms.angles:
        found = None if terms.is_linear(j) else terms.properties.GetMMFFStretchBendParams(terms.mol, i, j, k)
        if found is None:
            continue
        _, first, second = found
        values = [first * unit, terms.bond(i, j)[1], second * unit, terms.bond(k, j)[1], terms.angle(i, j, k)[1]]
        for s in terms.shifts:
            force.addBond([i + s, j + s, k + s], values)
    return force


def _out_of_plane(terms: _Terms) -> Any:
    """Out-of-plane bending k/2 chi², with the Wilson angle chi between the bond j-l and the plane i-j-k.

    The particles are i, j, k, l.
    """
    import openmm

    force = openmm.CustomCompoundBondForce(
        4,
        "k/2*asin(max(-1,min(1,(nx*lx+ny*ly+nz*lz)/sqrt((nx^2+ny^2+nz^2)*(lx^2+ly^2+lz^2)))))^2;"
        "nx=iy*kz-iz*ky; ny=iz*kx-ix*kz; nz=ix*ky-iy*kx;"
        "ix=x1-x2; iy=y1-y2; iz=z1-z2; kx=x3-x2; ky=y3-y2; kz=z3-z2; lx=x4-x2; ly=y4-y2; lz=z4-z2",
    )
    force.addPerBondParameter("k")
    trigonal = 3
    for j, around in enumerate(terms.neighbours):
        if len(around) != trigonal:
            continue
        for i, k, last in permutations(around):
            constant = terms.properties.GetMMFFOopBendParams(terms.mol, i, j, k, last) if i < k else None
            if not constant:
                continue
            for s in terms.shifts:
                force.addBond([i + s, j + s, k + s, last + s], [constant * _MDYNE_ANG_IN_KCAL * KCAL_IN_KJ])
    return force


def _torsion(terms: _Terms) -> Any:
    """Torsions, as cosines of one, two and three times the torsion angle."""
    import openmm

    force = openmm.PeriodicTorsionForce()
    for i, j, k, m in terms.torsions():
        found = terms.properties.GetMMFFTorsionParams(terms.mol, i, j, k, m)
        if found is None:
            continue
        for periodicity, (height, phase) in enumerate(zip(found[1:], (0.0, math.pi, 0.0), strict=True), start=1):
            if height:
                for s in terms.shifts:
                    force.addTorsion(i + s, j + s, k + s, m + s, periodicity, phase, 0.5 * height * KCAL_IN_KJ)
    return force


def _vdw(properties: Any, i: int, j: int) -> tuple[float, float]:
    """R* (Å) and epsilon (kJ/mol) of a pair of atoms, donor-acceptor scaling included."""
    _, _, distance, depth = properties.GetMMFFVdWParams(i, j)
    return distance, depth * KCAL_IN_KJ


def _one_four(terms: _Terms, pairs: set[tuple[int, int]]) -> Any:
    """Van der Waals and scaled Coulomb terms of pairs of atoms that are three bonds apart."""
    import openmm

    force = openmm.CustomBondForce(f"{_VDW}+{_COULOMB}; d=10*r")
    for name in ("R", "eps", "qq"):
        force.addPerBondParameter(name)
    charge = terms.properties.GetMMFFPartialCharge
    for i, j in sorted(pairs):
        values = [*_vdw(terms.properties, i, j), _ONE_FOUR_COULOMB * charge(i) * charge(j)]
        for s in terms.shifts:
            force.addBond(i + s, j + s, values)
    return force


def _nonbonded(terms: _Terms, excluded: set[tuple[int, int]], cell_nm: FloatArray | None) -> Any:
    """Van der Waals and Coulomb terms of all pairs that are not excluded.

    In a cell, the Coulomb term is only the difference of MMFF94's buffered form and 1 / d; `_ewald` adds 1 / d.
    """
    import openmm

    n_atoms = len(terms.neighbours)
    types = sorted({terms.type_of(i) for i in range(n_atoms)})
    atom_of_type = {t: next(i for i in range(n_atoms) if terms.type_of(i) == t) for t in types}
    table = [_vdw(terms.properties, atom_of_type[b], atom_of_type[a]) for a in types for b in types]
    force = openmm.CustomNonbondedForce(
        f"{_VDW}+{_COULOMB if cell_nm is None else _COULOMB_BUFFERING}; "
        "d=10*r; R=radii(type1,type2); eps=depths(type1,type2); qq=q1*q2"
    )
    force.addPerParticleParameter("type")
    force.addPerParticleParameter("q")
    for name, column in (("radii", 0), ("depths", 1)):
        values = [row[column] for row in table]
        force.addTabulatedFunction(name, openmm.Discrete2DFunction(len(types), len(types), values))
    for _ in terms.shifts:
        for i in range(n_atoms):
            force.addParticle([types.index(terms.type_of(i)), terms.properties.GetMMFFPartialCharge(i)])
    for s in terms.shifts:
        for i, j in sorted(excluded):
            force.addExclusion(i + s, j + s)
    if cell_nm is not None:
        cutoff = _cutoff_nm(cell_nm)
        force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(cutoff)
        force.setUseSwitchingFunction(True)
        force.setSwitchingDistance(_SWITCH_SHARE * cutoff)
    return force


def _cutoff_nm(cell_nm: FloatArray) -> float:
    """Cut-off of the non-bonded terms, nm: `_LARGEST_CUTOFF_NM`, or just under half the shortest edge if less."""
    return min(_LARGEST_CUTOFF_NM, 0.49 * float(np.diag(cell_nm).min()))


def _ewald(terms: _Terms, excluded: set[tuple[int, int]], cell_nm: FloatArray) -> Any:
    """Coulomb energy (1 / d) of the charges in a periodic cell by particle-mesh Ewald, without excluded pairs.

    A plain cut-off is not sufficient: it cuts through molecules and leaves a net charge in the cut-off sphere of each
    atom. With charges as large as in perfluorocarbons, molecules would deform to collect this charge, which lowers the
    energy by electron volts.
    """
    import openmm

    force = openmm.NonbondedForce()
    scale = math.sqrt(_COULOMB_KCAL_ANG / _COULOMB_OPENMM_KCAL_ANG)
    for _ in terms.shifts:
        for i in range(len(terms.neighbours)):
            force.addParticle(scale * terms.properties.GetMMFFPartialCharge(i), 0.1, 0.0)
    for s in terms.shifts:
        for i, j in sorted(excluded):
            force.addException(i + s, j + s, 0.0, 0.1, 0.0)
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(_cutoff_nm(cell_nm))
    force.setEwaldErrorTolerance(_EWALD_TOLERANCE)
    return force


def mmff_system(molecule: Molecule, count: int, *, cell: FloatArray | None = None) -> Any:
    """Set up MMFF94 for `count` copies of a molecule; the atoms are ordered copy after copy.

    Without a cell, no cut-off is applied and the energy equals RDKit's. With a cell, charges interact by particle-mesh
    Ewald, and the other non-bonded terms are switched off between 0.9 and 1 of the cut-off. The cut-off is 10 Å, or
    just under half the shortest cell edge if that is less.

    Args:
        molecule: The molecule, with its RDKit counterpart.
        count: Number of copies.
        cell: Vectors of an orthorhombic periodic cell along x, y, z in Å, shape (3, 3), or None.

    Returns:
        The `openmm.System`.

    Raises:
        ValueError: If MMFF94 has no parameters for the molecule (`mmff_properties`), or the cell is not orthorhombic.
    """
    import openmm

    properties = mmff_properties(molecule)
    if properties is None:
        raise ValueError(f"MMFF94 has no parameters for {molecule.source}")
    if cell is not None and not np.allclose(cell, np.diag(np.diag(cell))):
        raise ValueError("periodic MMFF94 takes orthorhombic cells along x, y and z")
    cell_nm = None if cell is None else 0.1 * cell
    terms = _Terms(molecule, properties, count)
    system = openmm.System()
    for mass in np.tile(atomic_masses(molecule.numbers), count).tolist():
        system.addParticle(mass)
    if cell_nm is not None:
        system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in cell_nm.tolist()))
    near, three = terms.pairs_by_separation()
    ewald = [] if cell_nm is None else [_ewald(terms, near | three, cell_nm)]
    for force in (
        _stretch(terms),
        *_bends(terms),
        _stretch_bend(terms),
        _out_of_plane(terms),
        _torsion(terms),
        _one_four(terms, three),
        _nonbonded(terms, near | three, cell_nm),
        *ewald,
    ):
        system.addForce(force)
    return system
