"""Reading the parts of a campaign by name; a job may read only the parts that its key hashes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from al_engine.campaign import names
from al_engine.campaign.part import DATASET_STAGES, PARTS, iteration_of
from al_engine.files.frames_hdf5 import read_labelled
from al_engine.files.part_file import open_part
from al_engine.structures.frames import LabelledFrame


class UndeclaredPartError(RuntimeError):
    """A job reads a part that is not one of its parents: a change of that part would not change the job's key."""


class PartReader:
    """Opens parts by name; other parts than those named at its creation are refused.

    Args:
        directory: The campaign directory.
        parts: Names of the parts that may be opened, such as `iter003-member0`.
    """

    def __init__(self, directory: Path, parts: Iterable[str]) -> None:
        self.directory = directory
        self.names = tuple(dict.fromkeys(parts))

    def path(self, name: str) -> Path:
        """The file of a part.

        Raises:
            UndeclaredPartError: If the part is not among those that may be opened.
        """
        if name not in self.names:
            raise UndeclaredPartError(f"{name} is not among the parents {', '.join(self.names) or '(none)'}")
        return self.directory / PARTS / f"{name}.h5"

    @contextmanager
    def open(self, name: str) -> Iterator[h5py.File]:
        """Open a part for reading.

        Raises:
            UndeclaredPartError: As `path`.
            LedgerError: If the file is missing or damaged.
        """
        with open_part(self.path(name)) as root:
            yield root

    def label_chunks(self, source: str) -> list[str]:
        """Names of the label parts of the frames of a part, in order."""
        chunks = [name for name in self.names if names.label_source(name) == source]
        return sorted(chunks, key=names.label_order)

    def audits(self) -> list[str]:
        """Names of the parts with frames drawn for audits, in order."""
        return sorted(name for name in self.names if name.endswith("-audit"))

    def dataset_parts(self, *, before: int | None = None) -> list[str]:
        """Names of the parts whose labelled frames make the data set, in order.

        Args:
            before: Only parts made before this iteration; None: all.
        """
        return [
            name
            for name in sorted(self.names)
            if name.partition("-")[2] in DATASET_STAGES
            and (before is None or (group := iteration_of(name)) is None or group < before)
        ]

    def dataset(self, *, before: int | None = None) -> list[LabelledFrame]:
        """Labelled frames of the data set in order, without the test set; `before` as in `dataset_parts`."""
        labelled: list[LabelledFrame] = []
        for name in self.dataset_parts(before=before):
            with self.open(name) as root:
                labelled += read_labelled(root["labelled"])
        return labelled

    def dataset_size(self, *, before: int | None = None) -> int:
        """Number of labelled frames of the data set, without the test set; `before` as in `dataset_parts`."""
        size = 0
        for name in self.dataset_parts(before=before):
            with self.open(name) as root:
                size += len(root["labelled/n_atoms"])
        return size
