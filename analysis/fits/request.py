"""What to do with a table: which laws to fit to which columns and groups, and what to use the fits for."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggest:
    """Which `k` of the `candidates` to run next; `cost` is one of their columns, or None if all cost the same."""

    k: int
    candidates: pl.DataFrame
    cost: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """The second step of a chain, accuracy from loss: columns of the accuracy and of its number of tries."""

    accuracy: str
    tries: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to fit. `laws`: names, or ("auto",); `x`: variable of the law → column."""

    laws: tuple[str, ...]
    x: Mapping[str, str]
    y: str
    objective: str = "huber:1e-3:log"
    weights: str | None = None
    errors: str | None = None
    group: tuple[str, ...] = ()
    split: str | None = None
    cluster: str | None = None
    bootstrap: int = 0
    seed: int = 0
    predict: pl.DataFrame | None = None
    suggest: Suggest | None = None
    allocate: tuple[float, ...] = ()  # FLOPs
    isoflop: bool = False
    chain: Chain | None = None

    @property
    def columns(self) -> list[str]:
        """All columns of the table that are read."""
        return [*self.numbers, *self.group, *(c for c in (self.split, self.cluster) if c)]

    @property
    def numbers(self) -> list[str]:
        """The columns that contain numbers."""
        chain = [self.chain.accuracy, self.chain.tries] if self.chain else []
        return [*self.x.values(), self.y, *(c for c in (self.weights, self.errors) if c), *chain]
