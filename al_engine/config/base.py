"""Base class of the config's sections, and types that several sections share."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Temperature = Annotated[float, Field(gt=0.0, le=20_000.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A section of the config: unknown keys and implicit conversions are refused; values can't change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    added_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that are newer than some campaigns: they enter the keys of parts only if they differ from the default."""

    def key_values(self) -> dict[str, Any]:
        """The values that a part's key hashes."""
        values = self.model_dump(mode="json")
        for name in self.added_fields:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                del values[name]
        return values
