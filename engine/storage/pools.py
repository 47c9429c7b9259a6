"""The pools' part of the ledger: what a generator wrote, and the replay elements in it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial

import polars as pl

from engine import UserError
from engine.storage.files import Files, collect_faults
from engine.storage.fingerprint import Identity, differences, fingerprint
from engine.storage.records import PoolBegun
from engine.storage.store import concat

DRAW = ("item", "draw")  # what names a draw in its pool
ELEMENTS = "elements.parquet"
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
        """What cannot be read of a pool. Of its tables only the ends are read: a file that was cut has lost its end."""
        files = self.store.names(f"pools/{pool}")
        shards = [partial(self._check_table, path, REMOVE_SHARD, *DRAW) for path in self._shards(pool, files)]
        elements = partial(self._check_table, f"pools/{pool}/{ELEMENTS}", REMOVE_ELEMENTS)
        return collect_faults([lambda: self.pool_begun(pool), *shards, *[elements] * (ELEMENTS in files)])

    def add_draws(self, pool: str, draws: pl.DataFrame) -> None:
        """Adds a shard of draws to a pool."""
        self.store.write_table(f"pools/{pool}/draws-{uuid.uuid4().hex}.parquet", draws)

    def draws(self, pool: str, columns: Sequence[str] = ()) -> pl.DataFrame:
        """All draws of a pool, in no order; an empty table without columns if there are none. Raises RecordError.

        `columns`: the only ones that are read, beside those that name a draw. Each draw is there once: two runs may
        have written it before a study was locked.
        """
        shards = self._shards(pool, self.store.names(f"pools/{pool}"))
        if columns:
            draws = concat(self._columns(path, REMOVE_SHARD, [*DRAW, *columns]) for path in shards)
        else:
            draws = concat(self._table(path, REMOVE_SHARD, *DRAW) for path in shards)
        return draws.unique(DRAW, keep="first", maintain_order=True) if draws.height else draws

    def stamp_pool(self, pool: str) -> str:
        """What differs whenever a file of a pool has changed since."""
        return self._stamp(f"pools/{pool}/{name}" for name in self.store.names(f"pools/{pool}"))

    def put_elements(self, pool: str, elements: pl.DataFrame) -> None:
        """Keeps the replay elements of a pool, as its draws gave them, which are all there: they become one file."""
        self.store.write_table(f"pools/{pool}/{ELEMENTS}", elements, "lz4")  # each trial reads it
        self._merge_draws(pool)

    def elements(self, pool: str) -> pl.DataFrame | None:
        """The replay elements of a pool; None if no self-play phase has read its draws. Raises RecordError."""
        path = f"pools/{pool}/{ELEMENTS}"
        return self._table(path, REMOVE_ELEMENTS) if self.store.exists(path) else None

    def read_elements(self, pool: str) -> pl.DataFrame:
        """The replay elements of a pool that a trial has learned from. Raises RecordError, also if there are none."""
        return self._table(f"pools/{pool}/{ELEMENTS}", REMOVE_ELEMENTS)

    def element_draws(self, pool: str) -> pl.DataFrame:
        """Which draw gave each element of a pool, without their texts. Raises RecordError, also if there are none."""
        return self._columns(f"pools/{pool}/{ELEMENTS}", REMOVE_ELEMENTS, DRAW)

    def _merge_draws(self, pool: str) -> None:
        """Makes one shard of all. If it is killed in between, some draws are there twice, and are read once."""
        shards = self._shards(pool, self.store.names(f"pools/{pool}"))
        if len(shards) > 1:
            self.add_draws(pool, self.draws(pool))
            for path in shards:
                self.store.remove(path)

    def _shards(self, pool: str, files: Sequence[str]) -> list[str]:
        """Paths of a pool's shards of draws, among its files."""
        return [f"pools/{pool}/{name}" for name in files if fnmatch(name, "draws-*.parquet")]
