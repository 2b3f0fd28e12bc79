"""Config section `data`: labelled frames that the user brings."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from al_engine.config.base import Section

EnergyUnit = Literal["eV", "hartree", "rydberg", "kcal/mol", "kJ/mol"]
ForcesUnit = Literal["eV/ang", "hartree/bohr", "hartree/ang", "rydberg/bohr", "kcal/mol/ang", "kJ/mol/ang"]

StressUnit = Literal["eV/ang3", "GPa", "kbar", "hartree/bohr3", "eV"]


class DataConfig(Section):
    """A file of labelled frames that join the data set before iteration 0."""

    added_fields: ClassVar[Mapping[str, object]] = {
        "weight_key": None,
        "weight": 1.0,
        "stress_key": None,
        "stress_unit": "eV/ang3",
    }

    file: str = Field(
        min_length=1,
        description=(
            "File of labelled frames in a format that ASE reads (extended XYZ, ASE database, ...), or an HDF5 file "
            "that `al-engine data merge` wrote. A relative path starts at the folder of this config file."
        ),
    )
    labels: Literal["keep", "relabel"] = Field(
        "keep",
        description=(
            "`keep`: the labels of the file are used; they must be of the campaign's own method. Some frames are "
            "labelled again as a check (`checked_frames`), and the file is refused if its labels differ. `relabel`: "
            "only the structures of the file are used, and the campaign labels them."
        ),
    )
    energy_key: str | None = Field(
        None,
        min_length=1,
        description="Name of the energies in the file, such as `REF_energy`. null: the usual names are tried.",
    )
    forces_key: str | None = Field(
        None,
        min_length=1,
        description="Name of the forces in the file, such as `REF_forces`. null: the usual names are tried.",
    )
    stress_key: str | None = Field(
        None,
        min_length=1,
        description=(
            "Name of the stresses or virials of periodic frames in the file, such as `REF_stress`: nine components, or "
            "six in the order xx, yy, zz, yz, xz, xy. null: the stress that ASE reads beside its own energy; other "
            "stresses are not used."
        ),
    )
    weight_key: str | None = Field(
        None,
        min_length=1,
        description=(
            "Name of the weights of the frames in the training loss; it contains the word `weight`. null: "
            "`config_weight`, as in mace-torch. A frame without a weight has the weight 1."
        ),
    )
    weight: float = Field(
        1.0, gt=0.0, le=1e6, description="Factor of the weights of all frames of the file in the training loss."
    )
    energy_unit: EnergyUnit = Field("eV", description="Unit of the energies in the file.")
    forces_unit: ForcesUnit = Field("eV/ang", description="Unit of the forces in the file.")
    stress_unit: StressUnit = Field(
        "eV/ang3",
        description=(
            "Unit of the stresses under `stress_key`, which have ASE's sign: positive under tension. "
            "`eV`: virials, which are minus the stress times the volume, as in files of GAP and MACE."
        ),
    )
    checked_frames: int = Field(
        4,
        ge=0,
        le=1000,
        description=(
            "Number of frames that are labelled again with `labels: keep`, to compare both labels. 0: no check."
        ),
    )
    keep_outliers: bool = Field(
        default=False,
        description=(
            "Whether outliers are kept: frames whose energy or forces are far from the rest of the file. false: an "
            "outlier is a fault."
        ),
    )
    leave_out_faults: bool = Field(
        default=False,
        description=(
            "Whether frames with faults (no forces, another method, outliers, ...) are left out. false: they are "
            "named, and the campaign is refused. Copies of a frame with the same label are always left out."
        ),
    )
