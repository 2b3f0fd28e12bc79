"""Base class of the config's sections, and types that several sections share."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Temperature = Annotated[float, Field(gt=0.0, le=20_000.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A section of the config: unknown keys and implicit conversions are refused; values can't change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    added_fields: ClassVar[Mapping[str, object]] = {}
    """Fields that are newer than some campaigns, with the value that stands for what those campaigns do: only other
    values enter the keys of parts, and a begun campaign without the field has this value."""

    def key_values(self) -> dict[str, Any]:
        """The values that a part's key hashes."""
        values = self.model_dump(mode="json")
        for name, before in self.added_fields.items():
            if getattr(self, name) == before:
                del values[name]
        return values
