"""A faster linear algebra for tblite, for worker processes only.

tblite's wheels bring the reference BLAS and LAPACK. When OpenBLAS is in the process's global symbol table before tblite
is first imported, the dynamic linker binds tblite to it instead: 0.5 s rather than 1.9 s for 120 atoms, energies equal
within 1e-11 eV. The OpenBLAS used is the one that the xtb wheel brings, else the system's; where there is neither,
nothing changes.
"""

import ctypes
import importlib.util
import sys
from pathlib import Path


def _bundled_with_xtb() -> list[str]:
    spec = importlib.util.find_spec("xtb")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent.parent / "xtb.libs"
    # In this order: OpenBLAS needs the Fortran run-time, which needs libquadmath.
    found = [sorted(folder.glob(f"{name}*.so*")) for name in ("libquadmath", "libgfortran", "libopenblas")]
    return [str(paths[0]) for paths in found] if all(found) else []


def preload_openblas() -> bool:
    """Load OpenBLAS into the global symbol table, if there is one and tblite is not loaded yet.

    Returns:
        Whether OpenBLAS was loaded.
    """
    if sys.platform != "linux" or "tblite" in sys.modules:
        return False
    for libraries in (_bundled_with_xtb(), ["libopenblas.so.0"]):
        try:
            for library in libraries:
                ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        if libraries:
            return True
    return False
