"""The pools' part of the ledger: what a generator wrote, and the replay elements in it."""

import uuid
from dataclasses import dataclass
from fnmatch import fnmatch

import polars as pl

from engine import UserError
from engine.storage.files import Files, collect_faults
from engine.storage.fingerprint import Identity, differences, fingerprint
from engine.storage.records import PoolBegun
from engine.storage.store import concat

DRAW = ("item", "draw")  # what names a draw in its pool
REMOVE_SHARD = "remove it, so that its draws are made again"
REMOVE_ELEMENTS = "remove it and run jobs/selfplay.py, which reads it from the draws again"


def split_pool_address(address: str) -> tuple[str, str]:
    """The study's root and the pool's name, of `STORAGE/STUDY/pools/NAME`. Raises UserError for another address."""
    root, _, name = address.rstrip("/").rpartition("/pools/")
    if not root:
        raise UserError(f"{address}: not the address of a pool; write STORAGE/STUDY/pools/NAME")
    return root, name


@dataclass(frozen=True, slots=True)
class Pools(Files):
    """Typed reads and writes of the files of pools."""

    def claim_pool(self, pool: str, identity: Identity) -> None:
        """Records a pool's identity. Raises UserError if it was begun with another one, with the fields that differ."""
        begun = self.pool_begun(pool)
        if not begun:
            begun = PoolBegun(identity=identity, fingerprint=fingerprint(identity))
            self._write(f"pools/{pool}/pool.json", begun)
        if lines := differences(begun.identity, identity):
            raise UserError(f"pool {pool} was begun with other settings:\n    " + "\n    ".join(lines))

    def pool_begun(self, pool: str) -> PoolBegun | None:
        """What was begun under a pool's name, if anything. Raises RecordError, also for draws of unknown settings."""
        files = [name for name in self.store.names(f"pools/{pool}") if not name.endswith(".part")]
        return self._read(PoolBegun, f"pools/{pool}/pool.json") if files else None

    def find_pool_faults(self, pool: str) -> list[str]:
        """What cannot be read of a pool."""
        return collect_faults([lambda: self.pool_begun(pool), lambda: self.draws(pool), lambda: self.elements(pool)])

    def add_draws(self, pool: str, draws: pl.DataFrame) -> None:
        """Adds a shard of draws to a pool."""
        self.store.write_table(f"pools/{pool}/draws-{uuid.uuid4().hex}.parquet", draws)

    def draws(self, pool: str) -> pl.DataFrame:
        """All draws of a pool, in no order; an empty table without columns if there are none. Raises RecordError.

        Each draw is there once: two runs may have written it before a study was locked.
        """
        shards = [name for name in self.store.names(f"pools/{pool}") if fnmatch(name, "draws-*.parquet")]
        draws = concat(self._table(f"pools/{pool}/{name}", REMOVE_SHARD, *DRAW) for name in shards)
        return draws.unique(DRAW, keep="first", maintain_order=True) if draws.height else draws

    def put_elements(self, pool: str, elements: pl.DataFrame) -> None:
        """Keeps the replay elements of a pool, as the draws gave them."""
        self.store.write_table(f"pools/{pool}/elements.parquet", elements)

    def elements(self, pool: str) -> pl.DataFrame | None:
        """The replay elements of a pool; None if no self-play phase has read its draws. Raises RecordError."""
        path = f"pools/{pool}/elements.parquet"
        return self._table(path, REMOVE_ELEMENTS) if self.store.exists(path) else None

    def read_elements(self, pool: str) -> pl.DataFrame:
        """The replay elements of a pool that a trial has learned from. Raises RecordError, also if there are none."""
        return self._table(f"pools/{pool}/elements.parquet", REMOVE_ELEMENTS)
