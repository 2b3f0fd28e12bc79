"""Config section `execution`: how the machine is used."""

from typing import Literal, TypeAlias

from pydantic import Field, PositiveInt

from al_engine.config.base import Section

Acceleration: TypeAlias = Literal["auto", "kernels", "graph", "off"]


class ExecutionConfig(Section):
    """How the machine is used. These options may change at any time: they change results by no more than rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device on which models train and run. `auto`: a GPU if there is one, otherwise the CPU."
    )
    workers: PositiveInt | None = Field(
        None,
        le=1024,
        description=(
            "Number of worker processes. null: one per core that may be used; on a GPU, one process trains and samples."
        ),
    )
    acceleration: Acceleration = Field(
        "auto",
        description=(
            "How models are evaluated. `off`: plain PyTorch. `kernels`: C++ kernels for the CPU, compiled within "
            "seconds at their first use (needs g++ or clang++; without a compiler, a warning is printed and plain "
            "PyTorch is used). `graph`: with the kernels, and with energies and forces compiled as a whole by "
            "PyTorch, which takes a minute. `auto`: on a CPU `kernels`, and the MD of small clusters is traced and "
            "replayed; on a GPU `graph`, where a run is long enough. With kernels, the updates of a training are "
            "traced and replayed too."
        ),
    )
    lock: Literal["auto", "file", "none"] = Field(
        "auto",
        description=(
            "What prevents a second run of the same campaign. `auto`: a lock of the file system, which ends with its "
            "process. `file`: a file that the run renews, for file systems without locks; the file of a killed run "
            "becomes invalid at once on the same machine, and after 90 s on other machines. `none`: nothing; never "
            "start two runs of a campaign then."
        ),
    )
    label_cache: str | None = Field(
        None,
        description=(
            "File of labels that several campaigns share, such as `~/labels.sqlite`. A frame that was labelled once "
            "at a level of theory is not labelled at that level again. null: the campaign's own file, `labels.sqlite` "
            "in its directory."
        ),
    )
