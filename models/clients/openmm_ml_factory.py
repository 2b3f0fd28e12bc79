"""What OpenMM-ML finds by the entry point `al-engine` of its group `openmmml.potentials`.

`import openmmml` loads this module, for whatever potential: it imports nothing by itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.clients.openmm_ml import CommitteePotential


class CommitteePotentialFactory:
    """Makes the potential of `MLPotential("al-engine", model="runs/ethanol")`."""

    def createImpl(self, name: str, **args: Any) -> "CommitteePotential":  # noqa: N802  # OpenMM-ML's name
        """The potential; OpenMM-ML calls this method.

        Args:
            name: Name that the user gave: that of the entry point.
            args: Arguments of `CommitteePotential`.

        Raises:
            InputError: If no model is given, or it cannot be loaded.
        """
        from al_engine.errors import InputError
        from models.clients.openmm_ml import CommitteePotential

        if "model" not in args:
            raise InputError(f'MLPotential("{name}") needs the campaign: MLPotential("{name}", model="runs/ethanol")')
        return CommitteePotential(**args)
