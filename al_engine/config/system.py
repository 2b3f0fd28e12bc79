"""Config sections `system` and `initial`: the simulated system, the initial set and the test set."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section, Temperature

InitialSource: TypeAlias = Literal["auto", "anneal", "reference", "file"]


def _names(value: Any) -> Any:
    """Convert the keys to strings: YAML reads LAMMPS types as numbers."""
    return {str(name): element for name, element in value.items()} if isinstance(value, dict) else value


MOST_MOLECULES = 10_000
"""Largest number of molecules of a system."""


class SpeciesConfig(Section):
    """A kind of molecule or ion in a mixture."""

    count: PositiveInt = Field(1, le=MOST_MOLECULES, description="Number of these molecules in the mixture.")
    smiles: str | None = Field(
        None, min_length=1, description="SMILES of the molecule. Give exactly one of `smiles` and `structure`."
    )
    structure: str | None = Field(
        None, min_length=1, description="Structure file of the molecule, as `system.structure`, without a cell."
    )
    structure_frame: int | None = Field(
        None, description="Index of the structure in a file with several structures, as `system.structure_frame`."
    )
    charge: int | None = Field(
        None,
        ge=-100,
        le=100,
        description="Charge of a molecule in e. null: the charge that the SMILES or the file states, otherwise 0.",
    )
    unpaired_electrons: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Unpaired electrons of a molecule. null: the number that the file states, otherwise 0.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.smiles is None) == (self.structure is None):
            raise ValueError("give exactly one of `smiles` and `structure`")
        if self.structure is None and self.structure_frame is not None:
            raise ValueError("`structure_frame` chooses a structure of the file `structure`, which is not given")
        return self


class SystemConfig(Section):
    """The system that the force field is trained for."""

    added_fields: ClassVar[Mapping[str, object]] = {
        "species": [],
        "structure_frame": None,
        "structures": None,
        "elements": {},
    }

    smiles: str | None = Field(
        None,
        min_length=1,
        description=(
            "SMILES of a molecule; parts separated by dots (`[Na+].[Cl-]`) are molecules of a mixture. Give exactly "
            "one of `smiles`, `structure` and `species`."
        ),
    )
    species: list[SpeciesConfig] = Field(
        default_factory=list,
        description=(
            "The molecules and ions of a mixture with their numbers, such as `[{smiles: O, count: 10}, {smiles: CO, "
            "count: 3}]`. Each molecule is packed on its own. Further keys of a species: `structure` (a file, in place "
            "of `smiles`), `structure_frame`, and `charge` and `unpaired_electrons` of one molecule."
        ),
    )
    structure: str | None = Field(
        None,
        min_length=1,
        description=(
            "Structure file in a format that ASE reads (xyz, pdb, cif, ...), or SDF or MOL. A relative path starts at "
            "the folder of this config file."
        ),
    )
    structure_frame: int | None = Field(
        None,
        description=(
            "Index of the structure in a file with several structures: counted from 0, or from the end if negative "
            "(-1 is the last)."
        ),
    )
    structures: str | None = Field(
        None,
        min_length=1,
        description=(
            "File of starting structures of the whole system, such as conformers or arrangements of its molecules, in"
            " a format that ASE reads. They are labelled with the initial frames, and the trajectories of the "
            "committee's MD start from them in turn: every second trajectory of iteration 0, and every second of "
            "those that start afresh later. The order of their atoms may differ from that of the system. A relative "
            "path starts at the folder of this config file."
        ),
    )
    elements: Annotated[dict[str, str], BeforeValidator(_names)] = Field(
        default_factory=dict,
        description=(
            "Elements of the atom names or atom types in your files, such as `{OW: O, HW1: H}` for a .gro file or "
            "`{1: O, 2: H}` for a LAMMPS file. Used for `structure`, `structures`, the files of `species`, "
            "`initial.file` and the files of `data`."
        ),
    )
    molecules: PositiveInt = Field(
        1,
        le=MOST_MOLECULES,
        description="Number of copies of the molecule, of the structure in the file, or of the whole mixture.",
    )
    shape: Literal["cluster", "box"] | None = Field(
        None,
        description=(
            "`cluster`: molecules in vacuum. `box`: a periodic box, either packed at `density_g_per_cm3`, or the cell "
            "of a periodic structure file (`molecules: 1`). null: a cluster; for a periodic structure file, `shape` "
            "must be given."
        ),
    )
    density_g_per_cm3: PositiveFloat | None = Field(
        None,
        le=30.0,
        description="Density of the periodic box, or of the box that clusters are cut from (`initial.box_molecules`).",
    )
    charge: int | None = Field(
        None,
        ge=-100,
        le=100,
        description=(
            "Total charge of the system in e. null: the charge that the SMILES or the structure file states, "
            "otherwise 0."
        ),
    )
    unpaired_electrons: int | None = Field(
        None,
        ge=0,
        le=100,
        description=(
            "Number of unpaired electrons of the system (multiplicity minus 1). null: the number that the structure "
            "file states, otherwise 0. A number that does not fit the number of electrons is refused."
        ),
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.smiles is None, self.structure is None, not self.species].count(False) != 1:
            raise ValueError("give exactly one of `smiles`, `structure` and `species`")
        if self.shape == "box" and self.density_g_per_cm3 is None and self.structure is None:
            raise ValueError("`shape: box` needs `density_g_per_cm3`")
        if self.structure is None and self.structure_frame is not None:
            raise ValueError("`structure_frame` chooses a structure of the file `structure`, which is not given")
        total = self.molecules * sum(species.count for species in self.species)
        if total > MOST_MOLECULES:
            raise ValueError(f"the mixture has {total} molecules in all; a system may have {MOST_MOLECULES}")
        return self

    @property
    def built(self) -> bool:
        """Whether all molecules are built from SMILES, so that no atom comes from a file."""
        return self.structure is None and all(species.structure is None for species in self.species)


class StretchConfig(Section):
    """Bond stretching of initial frames: a random bond's length times U(shortest, longest)."""

    share: Fraction = Field(
        0.0,
        description=(
            "Share of the initial frames in which bonds are stretched; 0: none. In the benchmark "
            "(benchmarks/campaigns.md), a share of 0.3 reduced the force errors along strongly stretched bonds to a "
            "third, and made the errors on ordinary frames a third larger in iteration 0."
        ),
    )
    shortest_factor: PositiveFloat = Field(0.85, le=1.0, description="Smallest factor on the bond length.")
    longest_factor: float = Field(2.0, ge=1.0, le=5.0, description="Largest factor on the bond length.")
    bonds: PositiveInt = Field(
        1,
        le=100,
        description=(
            "Number of bonds stretched in each of these frames, one after another. Each bond is drawn from the bonds "
            "outside rings, and its smaller fragment is moved rigidly. A draw that puts atoms on top of each other is "
            "repeated."
        ),
    )


REFERENCE_ATOMS = 30
"""Number of atoms of the largest system for which `initial.source: auto` prefers MD by GFN2-xTB to the anneal. A single
point of 30 atoms takes 10 to 35 ms on one core."""
REFERENCE_ATOMS_OF_IONS = 40
"""The same number for systems with ions. MMFF94's frames of ions resemble those that the models meet less than its
frames of neutral molecules do (benchmarks/mixtures.md)."""


class InitialConfig(Section):
    """Source of the initial set and of the test set."""

    added_fields: ClassVar[Mapping[str, object]] = {"reference_stride_steps": 40}

    source: InitialSource = Field(
        "auto",
        description=(
            "Source of the initial frames. `anneal`: classical MD, cooled from `hot_kelvin` to `cold_kelvin`, with "
            "MMFF94, or with UFF where MMFF94 has no parameters. `reference`: MD with the forces of the reference "
            "method, for small clusters of several molecules, and where classical force fields get the geometry wrong. "
            "`file`: your own frames. `auto`: `reference` for clusters of several molecules with at most "
            f"{REFERENCE_ATOMS} atoms in all ({REFERENCE_ATOMS_OF_IONS} with ions) that are labelled by GFN2-xTB; for "
            "other systems, `anneal` if the reference method confirms the classical geometry, otherwise `reference` "
            "for clusters labelled by GFN2-xTB, and else an error message."
        ),
    )
    file: str | None = Field(
        None,
        description=(
            "Trajectory for `source: file`, in a format that ASE reads. A relative path starts at the folder of this "
            "config file. The order of its atoms may differ from that of the system: molecules are found by "
            "their bonds. For a cluster, the trajectory may be of a periodic box with more molecules: the "
            "`system.molecules` nearest the centre of the box are cut out."
        ),
    )
    frames: PositiveInt = Field(100, ge=2, description="Number of frames of the initial set.")
    test_frames: PositiveInt = Field(
        40,
        description=(
            "Number of frames of the test set, spread over all temperatures. They are never trained on or selected "
            "from."
        ),
    )
    hot_kelvin: Temperature = Field(1000.0, description="Temperature at the start of the anneal.")
    cold_kelvin: Temperature = Field(280.0, description="Temperature at the end of the anneal.")
    duration_ps: PositiveFloat = Field(
        20.0, description="Length of the anneal. The MD that makes the test set has the same length."
    )
    timestep_fs: PositiveFloat = Field(0.5, le=5.0, description="Time step of the classical or reference MD.")
    reference_stride_steps: PositiveInt = Field(
        40,
        description=(
            "For `source: reference`: number of MD steps between two frames of a trajectory. Each step is a "
            "single-point calculation by the reference method."
        ),
    )
    box_molecules: int = Field(
        0,
        ge=0,
        le=10_000,
        description=(
            "0: the system itself is annealed. Otherwise: a periodic box of this number of molecules is annealed at "
            "`system.density_g_per_cm3`, and the `system.molecules` nearest its centre are cut out."
        ),
    )
    stretch: StretchConfig = Field(
        default_factory=StretchConfig, description="Bond stretching, an augmentation of the initial set."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "file" and self.file is None:
            raise ValueError("`source: file` needs `file`")
        if self.source != "file" and self.file is not None:
            raise ValueError("`file` is used only with `source: file`; set that, or remove `file`")
        if self.cold_kelvin > self.hot_kelvin:
            raise ValueError(f"cold_kelvin ({self.cold_kelvin:g}) is above hot_kelvin ({self.hot_kelvin:g}); swap them")
        return self
