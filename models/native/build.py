"""Compile a kernel for this machine, once: libraries are cached on disk under a hash of source, flags and machine."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    "-shared",
    "-fPIC",
)
"""-ffast-math with two exceptions: NaN and infinity keep their meaning, so that broken frames give NaN; and loading a
library does not make the whole process flush denormal numbers, as linking with -ffast-math does."""
REGISTERS = """
#if defined(__AVX512F__)
#define REGISTER_BYTES 64
#elif defined(__AVX__)
#define REGISTER_BYTES 32
#else
#define REGISTER_BYTES 16
#endif
// Channels per instruction: the largest power of two that divides their number and fits into a register.
constexpr int lanes(int channels, int real_bytes) {
    const int fitting = REGISTER_BYTES / real_bytes, dividing = channels & -channels;
    return dividing < fitting ? dividing : fitting;
}
"""
"""Width of a vector register of the machine that compiles; the vectors of the kernels have this width. With vectors of
64 bytes on a machine with registers of 32, training took 2.5 times as long: the compiler keeps them in memory."""
TIME_LIMIT_S = 120.0


class KernelError(RuntimeError):
    """A kernel cannot be used on this machine; the message gives the reason."""


def cache_directory() -> Path:
    """Directory of compiled libraries: `al-engine/kernels` in the user's cache directory.

    Raises:
        KernelError: If the user has no home directory. A directory that other users can write to is unsafe, because
            the libraries in it are executed.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "al-engine" / "kernels"
    except RuntimeError as error:
        raise KernelError(
            "the user has no home directory for compiled kernels; set XDG_CACHE_HOME to a directory of the user"
        ) from error


def find_compiler() -> str | None:
    """The C++ compiler: `$CXX`, else the first of c++, g++ and clang++ on the path; None without a compiler."""
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def load_library(source: str, header: str) -> ctypes.CDLL:
    """The library compiled from a header and a source file of this folder.

    Args:
        source: Name of the file.
        header: Definitions put in front of it.

    Raises:
        KernelError: If it cannot be compiled or loaded.
    """
    text = REGISTERS + header + (Path(__file__).parent / source).read_text(encoding="utf-8")
    command = find_compiler()
    if command is None:
        raise KernelError("no C++ compiler was found; install g++, or set CXX to a compiler")
    identity = "\n".join([text, *FLAGS, _version(command), _machine()])
    name = f"{Path(source).stem}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    library = cache_directory() / name
    try:
        if not library.exists():
            _compile(command, text, library)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise KernelError(f"the kernel {name} cannot be written or loaded: {error}") from error


def _compile(command: str, text: str, library: Path) -> None:
    """Compile into a temporary folder and rename, so that concurrent processes never see a partial library."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        source, result = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
        source.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(  # noqa: S603  # the compiler, without a shell
                [command, *FLAGS, str(source), "-o", str(result)],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIME_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise KernelError(f"{command} took more than {TIME_LIMIT_S:.0f} s to compile a kernel") from error
        if done.returncode:
            raise KernelError(f"{command} failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
        result.replace(library)


@cache
def _version(command: str) -> str:
    done = subprocess.run([command, "--version"], capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    return done.stdout


@cache
def _machine() -> str:
    """Model and features of the processor: machines with different processors may share a cache directory."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def real_type(dtype: torch.dtype) -> str:
    """The C++ name of a dtype."""
    return {torch.float32: "float", torch.float64: "double"}[dtype]


def table(kind: str, name: str, rows: Sequence[tuple[float, ...]]) -> str:
    """A constant C++ table."""
    body = ",".join("{" + ",".join(f"{value!r}" for value in row) + "}" for row in rows)
    return f"static const {kind} {name}[] = {{{body}}};\n"
