"""Feed the readers of configs, frames and parts with rubbish that grows out of sound files, for as long as wanted.

    python tests/faults/fuzz.py --seconds 600

A reader may take a file or refuse it with one of the engine's own errors; anything else is written down with the file
that did it, and makes the exit status 1. Readers of HDF5 run in child processes, as its library may crash.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import load_config
from al_engine.config.writer import config_text
from al_engine.errors import AlEngineError
from al_engine.files.frames_hdf5 import read_labelled, write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.files.seal import SEAL_BYTES, seal_of
from al_engine.structures.frames import Frame, LabelledFrame
from samplers.reading.structure_files import read_structures

BATCH, LIMIT_S = 20, 60
TOKENS = (
    *b"nan inf -1 1e999 null {} [] '' true 0x10 99999999999999999999 # \" Properties= !!python/object:x".split(),
    *(b"\0", b"\xff", b"\n", b"\t", b": ", b"&a ", b"*a ", b"- ", b"\xc3\xa5"),
)


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Sound files to start from, by reader."""
    from al_engine.config.reader import validate_config

    configs = [
        config_text(validate_config(merged({"name": "x", "system": {"smiles": "CCO"}}, preset), source="seed")).encode()
        for preset in PRESETS.values()
    ]
    xyz = b"3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
    extended = (
        b'2\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 charge=1 pbc="T T T"\n'
        b"O 0 0 0 0.1 0 0\nH 0.96 0 0 0 0.1 0\n"
    )
    part = folder / "seed.h5"
    frame = Frame(numbers=[8, 1, 1], positions=np.eye(3))
    with write_part(part, kind="seed", key="0" * 64) as root:
        write_labelled(root.create_group("labelled"), [LabelledFrame(frame, -1.0, np.ones((3, 3)))] * 3)
    sealed = part.read_bytes()
    return {
        "config": configs,
        "frames": [xyz, extended, xyz + extended],
        "part": [sealed],
        "resealed": [sealed[:-SEAL_BYTES]],
    }


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with a few things changed."""
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(content) + 1)
        end = min(len(content), place + rng.choice((1, 1, 2, 8, 100)))
        what = rng.randrange(6)
        if what == 0:
            content = content[:place] + content[end:]
        elif what == 1:
            content = content[:place] + content[place:end] * rng.choice((2, 3, 50)) + content[end:]
        elif what == 2:
            content = content[:place] + rng.choice(TOKENS) + content[place:]
        elif what == 3:
            content = content[:place] + rng.randbytes(end - place) + content[end:]
        elif what == 4:
            content = content[:place]
        else:
            other = rng.randrange(len(content) + 1)
            content = content[:place] + content[other : other + 50] + content[end:]
    return content


def read_part(path: Path) -> None:
    """What resuming does with a part."""
    with open_part(path, verify=True) as root:
        read_labelled(root["labelled"])


READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "config": (load_config, ".yaml"),
    "frames": (read_structures, ".xyz"),
    "part": (read_part, ".h5"),
    "resealed": (read_part, ".h5"),
}
"""`resealed` is what somebody has changed on purpose: the seal is right, so that HDF5 sees what is behind it."""


def read_all(reader: str, paths: list[Path]) -> Counter[str]:
    """Read files; counts of what became of them. Raises what a reader should not."""
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            READERS[reader][0](path)
            counts["taken"] += 1
        except AlEngineError as error:
            if not str(error).strip() or str(path) not in str(error):
                raise AssertionError(f"{path}: an error that does not name its file: {error}") from error
            counts["refused"] += 1
    return counts


def batch(reader: str, sound: list[bytes], folder: Path, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Read some mutated files in a child process; counts, and what went wrong."""
    paths = []
    for number in range(BATCH):
        path = folder / f"{reader}{number}{READERS[reader][1]}"
        content = mutated(rng.choice(sound), rng)
        path.write_bytes(content + seal_of(content) if reader == "resealed" else content)
        paths.append(path)
    counts: Counter[str] = Counter()
    wrong = []
    for some in [paths, *([path] for path in paths)]:
        answer, problem = _read_in_a_child(reader, some)
        if problem is None:
            counts.update(_parsed(answer))
            if some is paths:
                return counts, []
        elif some is not paths:
            kept = Path.cwd() / f"fuzz-{reader}-{rng.randrange(10**9)}{READERS[reader][1]}"
            kept.write_bytes(some[0].read_bytes())
            wrong.append(f"{kept.name}: {problem}")
    return counts, wrong


def _read_in_a_child(reader: str, paths: list[Path]) -> tuple[str, str | None]:
    """What a child process that reads files prints, and what is wrong with it."""
    command = [sys.executable, __file__, "--read", reader, *map(str, paths)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return "", f"takes more than {LIMIT_S} s"
    if answer.returncode == 0:
        return answer.stdout, None
    return "", (answer.stderr.strip().splitlines()[-1:] or [f"status {answer.returncode}"])[0]


def _parsed(text: str) -> Counter[str]:
    return Counter({name: int(count) for name, _, count in (line.partition("=") for line in text.split())})


def main() -> int:
    """Feed and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the rubbish (default: 0)")
    parser.add_argument("--read", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        counts = read_all(options.read[0], [Path(path) for path in options.read[1:]])
        print(" ".join(f"{name}={count}" for name, count in counts.items()))
        return 0
    rng, end = random.Random(options.seed), time.monotonic() + options.seconds
    totals: dict[str, Counter[str]] = {reader: Counter() for reader in READERS}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="al-engine-fuzz-") as name:
        sound = seeds(Path(name))
        while time.monotonic() < end:
            for reader, files in sound.items():
                counts, found = batch(reader, files, Path(name), rng)
                totals[reader] += counts
                wrong += found
    for reader, counts in totals.items():
        print(f"{reader}: {counts['taken']} taken, {counts['refused']} refused")
    print(*(wrong or ["nothing but clean errors"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
