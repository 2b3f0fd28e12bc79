"""Convert models of mace-torch and nequip to a committee.

    python -m models.interop.convert a.h5 b.h5 --to committee.h5

The command reads files that `export_mace.py` or `export_nequip.py` wrote, and writes a committee to a file. The file is
for `models.load_committee`, or for the start of a campaign (`training.start`).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from al_engine.config import Dtype
from al_engine.errors import AlEngineError, ExitStatus, InputError
from al_engine.files.hdf5 import in_memory_hdf5
from models.interop.convert_mace import convert_mace
from models.interop.convert_nequip import convert_nequip
from models.interop.export_file import open_export, package_of
from models.interop.mace_file import PACKAGE as MACE
from models.interop.mace_file import read_mace_group
from models.interop.nequip_file import read_nequip_group
from models.storage.weights import TrainedMember, write_member


def convert(source: Path, *, head: str | None = None, dtype: Dtype | None = None) -> TrainedMember:
    """Convert an exported model of any supported package to a member.

    Args:
        source: File that an exporter wrote.
        head: Head of a mace-torch model with several heads; None for a single head.
        dtype: Precision of the member; None for that of the exported model.

    Raises:
        InputError: If no exporter wrote the file, or its model cannot be represented exactly. The message gives the
            reason.
    """
    with open_export(source) as file:
        if package_of(file) == MACE:
            return convert_mace(read_mace_group(file), head=head, dtype=dtype)
        if head is not None:
            raise InputError(f"{source} holds a nequip model, which has no heads; leave out `--head`")
        return convert_nequip(read_nequip_group(file), dtype=dtype)


def write_committee(
    sources: Sequence[Path], target: Path, *, head: str | None = None, dtype: Dtype | None = None
) -> None:
    """Convert exported models into one file that `load_committee` reads; members keep their order.

    Args:
        sources: Files that the exporters wrote, one per member.
        target: HDF5 file to write.
        head: Head of mace-torch models with several heads; None for a single head.
        dtype: Precision of the members; None for that of each exported model.

    Raises:
        InputError: If a model cannot be converted, or elements or cut-offs differ.
        ResumableError: If the target cannot be written.
    """
    members = [convert(path, head=head, dtype=dtype) for path in sources]
    first = members[0].model
    for path, member in zip(sources, members, strict=True):
        for quantity, ours, theirs in (
            ("elements", member.model.constants.elements, first.constants.elements),
            ("cut-offs", member.model.cutoffs, first.cutoffs),
        ):
            if ours != theirs:
                raise InputError(
                    f"{path} has {quantity} {ours}, {sources[0]} has {theirs}; members of a committee must share them: "
                    f"convert {path} to a separate file"
                )
    with in_memory_hdf5(target) as file:
        for k, member in enumerate(members):
            write_member(file.create_group(f"member{k}"), member)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m models.interop.convert", description="convert mace-torch or nequip models to a committee"
    )
    parser.add_argument(
        "sources", nargs="+", type=Path, help="files that export_mace.py or export_nequip.py wrote, one per member"
    )
    parser.add_argument("--to", required=True, type=Path, help="HDF5 file to write, for load_committee")
    parser.add_argument("--head", help="head to convert, for mace-torch models with several heads")
    parser.add_argument("--dtype", choices=get_args(Dtype), help="precision to evaluate in; default: the model's")
    options = parser.parse_args(arguments)
    try:
        write_committee(options.sources, options.to, head=options.head, dtype=options.dtype)
    except AlEngineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return ExitStatus.DONE


if __name__ == "__main__":
    sys.exit(main())
