"""Files below one root, on a disk or an object store, through one file-system interface (fsspec).

Every file appears whole or not at all: a local one is written beside its place and renamed, an object is put at once.
What the files of a study are called is known to `engine.storage.ledger` alone.
"""

import io
import json
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import polars as pl


@dataclass(frozen=True, slots=True)
class Store:
    """A root address, `runs/quickstart` or `s3://bucket/study`; paths below it are relative, with slashes.

    Plain data, so that it travels to every worker; a local root becomes absolute, since workers run in other folders.
    """

    root: str

    def __post_init__(self) -> None:
        if self.is_local:
            object.__setattr__(self, "root", os.path.abspath(self.root))

    @property
    def is_local(self) -> bool:
        """Is it a folder of this machine (or one that all machines mount)?"""
        return "://" not in self.root

    def address(self, path: str) -> str:
        """The full address of a path; a local one is absolute."""
        return os.path.join(self.root, path) if self.is_local else f"{self.root.rstrip('/')}/{path}"

    def write_bytes(self, path: str, content: bytes) -> None:
        """Writes a file whole or not at all."""
        target = self.address(path)
        if not self.is_local:
            fs, inner = fsspec.core.url_to_fs(target)
            fs.pipe_file(inner, content)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        beside = f"{target}.{uuid.uuid4().hex}.part"
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)

    def read_bytes(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        fs, inner = fsspec.core.url_to_fs(self.address(path))
        return bytes(fs.cat_file(inner))

    def exists(self, path: str) -> bool:
        """Is there such a file or folder?"""
        fs, inner = fsspec.core.url_to_fs(self.address(path))
        return bool(fs.exists(inner))

    def write_json(self, path: str, value: Any) -> None:
        """Writes plain data as readable JSON."""
        self.write_bytes(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode())

    def read_json(self, path: str) -> Any:
        """Reads what `write_json` wrote. Raises FileNotFoundError."""
        return json.loads(self.read_bytes(path))

    def write_table(self, path: str, table: pl.DataFrame) -> None:
        """Writes a table as Parquet."""
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        self.write_bytes(path, buffer.getvalue())

    def read_table(self, path: str) -> pl.DataFrame:
        """Reads a Parquet file. Raises FileNotFoundError."""
        return pl.read_parquet(io.BytesIO(self.read_bytes(path)))

    def list(self, pattern: str) -> list[str]:
        """Relative paths that match a pattern such as `trials/*/result.json`, sorted."""
        fs, inner = fsspec.core.url_to_fs(self.address(pattern))
        root = fsspec.core.url_to_fs(self.address(""))[1].rstrip("/")
        return sorted(str(path)[len(root) + 1 :] for path in fs.glob(inner))

    def remove(self, path: str) -> None:
        """Removes a file or a folder with all in it; nothing happens where there is none."""
        fs, inner = fsspec.core.url_to_fs(self.address(path))
        if fs.exists(inner):
            fs.rm(inner, recursive=True)

    def put_folder(self, folder: str, path: str) -> None:
        """Copies a local folder's files to a path; a local target appears whole."""
        target = self.address(path)
        if not self.is_local:
            fs, inner = fsspec.core.url_to_fs(target)
            fs.put(f"{folder}/", inner, recursive=True)
            return
        beside = f"{target}.{uuid.uuid4().hex}.part"
        shutil.copytree(folder, beside)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(beside, target)

    def local_folder(self, path: str, scratch: str) -> str:
        """The folder itself where it is local, else a copy of it below `scratch`."""
        if self.is_local:
            return self.address(path)
        fs, inner = fsspec.core.url_to_fs(self.address(path))
        copy = Path(scratch) / path
        fs.get(inner, str(copy), recursive=True)
        return str(copy)


def concat(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Tables below each other; an empty table without columns if there are none."""
    tables = [t for t in tables if t.height]
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()
