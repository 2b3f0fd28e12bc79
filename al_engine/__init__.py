"""al-engine: active learning of machine-learning force fields.

The names that a script needs are imported from this package. Each is loaded on its first use:

    from al_engine import Campaign, load_committee

    campaign = Campaign("runs/ethanol")
    atoms.calc = load_committee("runs/ethanol")

Modules of the project do not import these names from here, because this package is the core that all other packages
import.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.api import Campaign
    from models import load_committee

__all__ = ["Campaign", "load_committee"]

_HOME = {"Campaign": "flows.api", "load_committee": "models"}
_ROOMS = ("flows", "models", "samplers", "labelers")


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` on its first use.

    Raises:
        AttributeError: If the name is not in `__all__`.
        ImportError: If a module of the user has the name of one of al-engine's packages.
    """
    if name not in _HOME:
        raise AttributeError(f"module 'al_engine' has no attribute {name!r}")
    _refuse_shadows()
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _refuse_shadows() -> None:
    """Raise ImportError if Python would import another file in place of one of al-engine's packages."""
    ours = Path(__file__).resolve().parent.parent
    for room in _ROOMS:
        spec = find_spec(room)
        found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if found is not None and found != ours / room / "__init__.py":
            raise ImportError(
                f"{found} has the name of al-engine's package `{room}` ({ours / room}) and comes first on Python's "
                "path: rename it, or start Python in another folder"
            )
