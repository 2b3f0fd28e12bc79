"""Config sections `system` and `initial`: the simulated system, the initial set and the test set."""

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section, Temperature

InitialSource: TypeAlias = Literal["auto", "anneal", "reference", "file"]


def _names(value: Any) -> Any:
    """Convert the keys to strings: YAML reads LAMMPS types as numbers."""
    return {str(name): element for name, element in value.items()} if isinstance(value, dict) else value


class SystemConfig(Section):
    """The system that the force field is trained for."""

    added_fields: ClassVar[frozenset[str]] = frozenset({"structure_frame", "elements"})

    smiles: str | None = Field(None, min_length=1, description="SMILES of one molecule. Give this or `structure`.")
    structure: str | None = Field(
        None, min_length=1, description="Structure file that ASE reads (xyz, pdb, cif, ...), relative to this file."
    )
    structure_frame: int | None = Field(
        None, description="Which structure of a file of several, counted from 0, or from the end if negative."
    )
    elements: Annotated[dict[str, str], BeforeValidator(_names)] = Field(
        default_factory=dict,
        description=(
            "Elements by the names or types that your files have for atoms, such as `{OW: O, HW1: H}` for a .gro file "
            "or "
            "`{1: O, 2: H}` for LAMMPS; for `structure` and `initial.file`."
        ),
    )
    molecules: PositiveInt = Field(1, le=10_000, description="How many copies of the molecule make the system.")
    shape: Literal["cluster", "box"] | None = Field(
        None,
        description=(
            "`cluster`: molecules in vacuum; `box`: a periodic box, at `density_g_per_cm3` or with the cell of a "
            "structure file that is not copied. null: a cluster, unless the structure file is periodic: then it must "
            "be said."
        ),
    )
    density_g_per_cm3: PositiveFloat | None = Field(
        None, le=30.0, description="Density of the periodic box; also of the box that clusters are cut from."
    )
    charge: int | None = Field(
        None,
        ge=-100,
        le=100,
        description="Total charge of the system in e; null: what the SMILES or the structure file says, else 0.",
    )
    unpaired_electrons: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Unpaired electrons of the system; null: what the file says, else 0, refused if that can't be.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.smiles is None) == (self.structure is None):
            raise ValueError("give exactly one of `smiles` and `structure`")
        if self.shape == "box" and self.density_g_per_cm3 is None and self.structure is None:
            raise ValueError("`shape: box` needs `density_g_per_cm3`")
        if self.structure is None and self.structure_frame is not None:
            raise ValueError("`structure_frame` is of `structure`, which is not given")
        return self


class StretchConfig(Section):
    """Bond stretching of initial frames: a random bond's length times U(shortest, longest)."""

    share: Fraction = Field(
        0.0,
        description=(
            "Share of the initial frames in which bonds are stretched; 0: none. With 0.3 errors along stretched bonds "
            "fall to a third, and on ordinary frames grow at first (benchmarks/campaigns.md)."
        ),
    )
    shortest_factor: PositiveFloat = Field(0.85, le=1.0, description="Smallest factor on the bond length.")
    longest_factor: float = Field(2.0, ge=1.0, le=5.0, description="Largest factor on the bond length.")
    bonds: PositiveInt = Field(
        1,
        le=100,
        description=(
            "Bonds stretched in each such frame, one after another: any that is in no ring, its smaller side moved "
            "rigidly; a draw that would put atoms on top of each other is drawn anew."
        ),
    )


class InitialConfig(Section):
    """Source of the initial set and of the test set."""

    added_fields: ClassVar[frozenset[str]] = frozenset({"reference_stride_steps"})

    source: InitialSource = Field(
        "auto",
        description=(
            "`anneal`: classical MD (MMFF94, else UFF) from hot to cold; `reference`: MD by the reference method "
            "itself, for molecules that no classical force field has right; `file`: your own frames. `auto`: `anneal` "
            "where the reference method confirms the classical geometry, else, for clusters by GFN2-xTB, `reference`."
        ),
    )
    file: str | None = Field(
        None,
        description=(
            "Trajectory that ASE reads, for `source: file`, relative to this file. Its atoms may stand in another "
            "order: molecules are found by their bonds. For a cluster it may be of a periodic box of more molecules: "
            "the `system.molecules` nearest its centre are cut out."
        ),
    )
    frames: PositiveInt = Field(100, description="Frames of the initial set.")
    test_frames: PositiveInt = Field(
        40,
        description="Frames of the test set, spread over all temperatures; never trained on or selected from.",
    )
    hot_kelvin: Temperature = Field(1000.0, description="Where the anneal starts.")
    cold_kelvin: Temperature = Field(280.0, description="Where the anneal ends.")
    duration_ps: PositiveFloat = Field(20.0, description="Length of the anneal; the test set takes as much again.")
    timestep_fs: PositiveFloat = Field(0.5, le=5.0, description="Time step of the classical or reference MD.")
    reference_stride_steps: PositiveInt = Field(
        40,
        description=(
            "For `source: reference`: MD steps, each a single point of the reference method, between two frames of a "
            "trajectory."
        ),
    )
    box_molecules: int = Field(
        0,
        ge=0,
        le=10_000,
        description=(
            "0: anneal the system itself. Else: anneal a periodic box of so many molecules at "
            "`system.density_g_per_cm3` and cut out the `system.molecules` nearest its centre."
        ),
    )
    stretch: StretchConfig = Field(default_factory=StretchConfig, description="Bond stretching (augmentation).")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.source == "file" and self.file is None:
            raise ValueError("`source: file` needs `file`")
        if self.source != "file" and self.file is not None:
            raise ValueError("`file` is only read with `source: file`")
        if self.cold_kelvin > self.hot_kelvin:
            raise ValueError(f"cold_kelvin ({self.cold_kelvin:g}) is above hot_kelvin ({self.hot_kelvin:g}); swap them")
        return self
