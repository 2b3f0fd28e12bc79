"""Config section `execution`: how the machine is used."""

from typing import Literal, TypeAlias

from pydantic import Field, PositiveInt

from al_engine.config.base import Section

Acceleration: TypeAlias = Literal["auto", "kernels", "graph", "off"]


class ExecutionConfig(Section):
    """How the machine is used. The section may change at any time: it changes results by no more than rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where models train and run; auto: a GPU if there is one."
    )
    workers: PositiveInt | None = Field(
        None, le=1024, description="Worker processes; null: one per core that may be used (one on a GPU)."
    )
    acceleration: Acceleration = Field(
        "auto",
        description=(
            "What makes models fast. `kernels`: C++ on a CPU, compiled for it in seconds (by g++ or clang++; if there "
            "is neither, a warning says so). `graph`: kernels, and energies and forces compiled as a whole by torch, "
            "in a minute. `auto`: kernels on a CPU, on a GPU the graph where a run is long enough. `off`: plain torch."
        ),
    )
    lock: Literal["auto", "file", "none"] = Field(
        "auto",
        description=(
            "What keeps a second run of the campaign out. `auto`: a lock of the file system, which ends with its "
            "process. `file`: a file that is renewed, for file systems without locks; that of a killed run ends at "
            "once on its own machine, after 90 s on others. `none`: nothing: never run a campaign twice at a time."
        ),
    )
    label_cache: str | None = Field(
        None,
        description=(
            "File of labels that campaigns share, such as `~/labels.sqlite`: a frame labelled once at some level of "
            "theory is not labelled again. null: the campaign's own file, `labels.sqlite` in its directory."
        ),
    )
