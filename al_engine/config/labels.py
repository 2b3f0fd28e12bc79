"""Reference energies and forces."""

from typing import Literal, Self

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section


class LabelsConfig(Section):
    """Reference energies and forces: GFN2-xTB, or any ASE calculator."""

    backend: Literal["auto", "xtb", "tblite", "ase"] = Field(
        "auto",
        description=(
            "`xtb` (xtb-python), `tblite`, or `ase` (a calculator by name); `auto`: xtb where it installs, else tblite."
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

    @model_validator(mode="after")
    def _calculator_named(self) -> Self:
        if (self.backend == "ase") != (self.ase_calculator is not None):
            raise ValueError("`backend: ase` and `ase_calculator` go together")
        return self
