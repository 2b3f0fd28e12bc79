"""Config section `labels`: reference energies and forces."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, TypeAlias

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt, model_validator

from al_engine.config.base import Fraction, Section

LabelBackend: TypeAlias = Literal["auto", "xtb", "tblite", "ase"]


class ForceCheckConfig(Section):
    """Comparison of the labels' forces with finite differences of the energies; no label depends on these options."""

    frames: int = Field(
        3,
        ge=0,
        le=100,
        description=(
            "Number of frames of the initial set whose forces are compared with finite differences of the energies of "
            "the same method. In every later iteration, one frame is compared. A comparison takes 12 single-point "
            "calculations, and 4 more if the label has a stress. 0: no comparisons, for "
            "methods so expensive that these calculations matter."
        ),
    )
    tolerance_mev_per_ang: PositiveFloat = Field(
        10.0,
        description=(
            "The campaign stops if a force component differs by more than this plus 1 % of the component. Noise that "
            "is spread over all atoms, such as that of a coarse integration grid, does not stop it."
        ),
    )


class CellCheckConfig(Section):
    """Check that periodic cells are large enough for GFN2-xTB at the Γ point, by comparison with doubled cells."""

    max_height_ang: float = Field(
        12.0,
        ge=0.0,
        le=100.0,
        description=(
            "Before a campaign begins, its cell is doubled and labelled again along each axis whose opposite faces "
            "are at most this far apart; 0: no check. In molecular liquids with cells of 9 Å, forces change by 1 to 4 "
            "meV/Å."
        ),
    )
    energy_mev_per_atom: PositiveFloat = Field(
        10.0, description="Largest change of the energy per atom that is accepted; a larger change refuses the cell."
    )
    force_mev_per_ang: PositiveFloat = Field(
        25.0, description="Largest change of a force component that is accepted; a larger change refuses the cell."
    )


class LabelsConfig(Section):
    """Reference energies and forces: GFN2-xTB, or any ASE calculator."""

    added_fields: ClassVar[Mapping[str, object]] = {"stress": False}

    backend: LabelBackend = Field(
        "auto",
        description=(
            "Program that computes the labels. `tblite`, `xtb` (xtb-python): GFN2-xTB. `ase`: the calculator that "
            "`ase_calculator` names. `auto`: tblite if it is installed, otherwise xtb."
        ),
    )
    accuracy: PositiveFloat = Field(
        1.0, le=1000.0, description="Accuracy setting of GFN2-xTB; smaller values converge more tightly."
    )
    electronic_temperature_kelvin: PositiveFloat = Field(
        300.0, le=20_000.0, description="Electronic temperature of GFN2-xTB (Fermi smearing)."
    )
    max_scf_iterations: PositiveInt = Field(
        250, description="Number of SCF cycles of GFN2-xTB after which a frame counts as not converged."
    )
    ase_calculator: str | None = Field(
        None,
        description="For `backend: ase`: the name of a calculator that ASE knows (`emt`), or `package.module:Class`.",
    )
    ase_parameters: dict[str, JsonValue] = Field(
        default_factory=dict,
        description=(
            "Keyword arguments of the ASE calculator. `profile: {command: ...}` gives the command of its program. "
            "`directory` is a folder in which the files of all labels are kept, in one subfolder per label."
        ),
    )
    ase_charge_and_spin: Literal["auto", "atoms", "parameters"] = Field(
        "auto",
        description=(
            "How the ASE calculator is given the charge and the unpaired electrons. `atoms`: it reads ASE's initial "
            "charges and magnetic moments. `parameters`: you set them in `ase_parameters`, the same for all frames, "
            "or the calculator has no use for them. `auto`: as docs/calculators.md lists it for the calculator; with "
            "a calculator that is not listed, ions and radicals are refused."
        ),
    )
    stress: bool = Field(
        default=True,
        description=(
            "Whether labels of periodic frames have a stress, if the method has stresses. It is compared with finite "
            "differences of energies, and trained on (`training.stress_weight`)."
        ),
    )
    max_force_ev_per_ang: PositiveFloat = Field(
        100.0, description="A label with a force component above this is recorded as a failure."
    )
    time_limit_s: PositiveFloat = Field(
        300.0,
        description="Time limit of a label: when it is reached, the worker is killed and the label has failed.",
    )
    memory_limit_mib: PositiveInt | None = Field(
        None,
        ge=512,
        description=(
            "Memory limit of a labelling process. A label that needs more memory is recorded as a failure. null: no "
            "limit."
        ),
    )
    chunk_frames: PositiveInt = Field(
        60, description="Number of frames that one task labels. The labels of each finished task are stored as a part."
    )
    max_failed_share: Fraction = Field(
        0.2,
        description="Share of failed labels in an iteration above which the campaign stops with the verdict `failed`.",
    )

    force_check: ForceCheckConfig = Field(
        default_factory=ForceCheckConfig,
        description="Comparison of the labels' forces with finite differences of the energies.",
    )

    cell_check: CellCheckConfig = Field(
        default_factory=CellCheckConfig,
        description="Check that periodic cells are large enough for GFN2-xTB, which samples the Γ point only.",
    )

    @model_validator(mode="after")
    def _calculator_named(self) -> Self:
        if (self.backend == "ase") != (self.ase_calculator is not None):
            raise ValueError("`backend: ase` needs `ase_calculator`, and no other backend takes it")
        return self
