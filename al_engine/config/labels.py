"""Config section `labels`: reference energies and forces."""

from typing import Literal, Self, TypeAlias

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section

LabelBackend: TypeAlias = Literal["auto", "xtb", "tblite", "ase"]


class ForceCheckConfig(Section):
    """Comparison of labels' forces with finite differences of energies. May change later: no label depends on it."""

    frames: int = Field(
        3,
        ge=0,
        le=100,
        description=(
            "Frames of the initial set on which the labels' forces are compared with finite differences of the same "
            "method's energies; in each later iteration one more. 12 single points each; 0: none, for methods so dear "
            "that these count."
        ),
    )
    tolerance_mev_per_ang: PositiveFloat = Field(
        10.0,
        description=(
            "A force component that is off by more, and by 1 % of it, stops the campaign. Noise that is spread over "
            "all atoms, as of a coarse grid, does not."
        ),
    )


class CellCheckConfig(Section):
    """Check that periodic cells are large enough for GFN2-xTB at the Γ point, by comparison with doubled cells."""

    max_height_ang: float = Field(
        12.0,
        ge=0.0,
        le=100.0,
        description=(
            "Before a campaign begins, its cell is doubled along each axis along which its faces are no farther apart "
            "than this; 0: never. Molecular liquids of 9 Å change by 1 to 4 meV/Å."
        ),
    )
    energy_mev_per_atom: PositiveFloat = Field(10.0, description="Largest change of the energy per atom.")
    force_mev_per_ang: PositiveFloat = Field(25.0, description="Largest change of a force component.")


class LabelsConfig(Section):
    """Reference energies and forces: GFN2-xTB, or any ASE calculator."""

    backend: LabelBackend = Field(
        "auto",
        description=(
            "`tblite` or `xtb` (xtb-python) for GFN2-xTB, or `ase` (a calculator by name); `auto`: tblite where it is "
            "installed, else xtb."
        ),
    )
    accuracy: PositiveFloat = Field(1.0, le=1000.0, description="Numerical accuracy of GFN2-xTB; smaller is tighter.")
    electronic_temperature_kelvin: PositiveFloat = Field(300.0, le=20_000.0, description="Fermi smearing of GFN2-xTB.")
    max_scf_iterations: PositiveInt = Field(250, description="SCF cycles before a frame counts as not converged.")
    ase_calculator: str | None = Field(
        None, description="For `backend: ase`: a name ASE knows (`emt`) or `package.module:Class`."
    )
    ase_parameters: dict[str, JsonValue] = Field(
        default_factory=dict,
        description=(
            "Keyword arguments of the ASE calculator. `profile: {command: ...}` names its program; `directory` keeps "
            "its files, one folder per label."
        ),
    )
    ase_charge_and_spin: Literal["auto", "atoms", "parameters"] = Field(
        "auto",
        description=(
            "How the ASE calculator is told charge and unpaired electrons. `auto`: as is known of it, else refused; "
            "`atoms`: it reads ASE's initial charges and magnetic moments; `parameters`: they stand in "
            "`ase_parameters`, the same for all frames, or mean nothing to it."
        ),
    )
    max_force_ev_per_ang: PositiveFloat = Field(
        100.0, description="A label with a larger force component is a recorded failure."
    )
    time_limit_s: PositiveFloat = Field(300.0, description="Time one label may take before its worker is killed.")
    memory_limit_mib: PositiveInt | None = Field(
        None, ge=512, description="Memory one labelling process may take, or its frame fails; null: no limit."
    )
    chunk_frames: PositiveInt = Field(60, description="Labels per task; each finished chunk is safe on disk.")
    max_failed_share: Fraction = Field(
        0.2,
        description="Share of failed labels in one iteration beyond which the campaign stops as `failed`.",
    )

    force_check: ForceCheckConfig = Field(
        default_factory=ForceCheckConfig, description="Forces against finite differences of the energies."
    )

    cell_check: CellCheckConfig = Field(
        default_factory=CellCheckConfig, description="Whether periodic cells are large enough for GFN2-xTB."
    )

    @model_validator(mode="after")
    def _calculator_named(self) -> Self:
        if (self.backend == "ase") != (self.ase_calculator is not None):
            raise ValueError("`backend: ase` and `ase_calculator` go together")
        return self
