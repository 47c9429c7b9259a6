"""What an hour of a node costs: the price table, a YAML file that its user edits.

    as_of: 2026-11-26
    currency: USD
    hourly:
      p5.48xlarge: {on_demand: 55.04, spot: 20.00}

`hourly` has the instances by the name that a cluster file gives them; `spot` may be left out.
"""

import datetime
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from engine import UserError


class Rate(BaseModel):
    """The price of one node for one hour."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_demand: PositiveFloat
    spot: PositiveFloat | None = None


class Rates(BaseModel):
    """The prices of all instances, and the day on which they were looked up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    as_of: datetime.date
    currency: str
    hourly: dict[str, Rate]


def read(path: str) -> Rates:
    """The price table of a file. Raises UserError that names each fault."""
    try:
        return Rates.model_validate(yaml.safe_load(Path(path).read_text()))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); the table that ships is clusters/prices.yaml"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        faults = (f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']} (it is {e['input']!r})" for e in error.errors())
        raise UserError("\n".join(faults)) from None
