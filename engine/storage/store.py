"""Files below one root, on a disk or an object store, through one file-system interface (fsspec).

Every file appears whole or not at all: a local one is written beside its place and renamed, an object is put at once.
Names are taken as they are: no character of a root or a path is a pattern or a part of a URL.
What the files of a study are called is known to `engine.storage.ledger` alone.
"""

import errno
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec
import polars as pl
from fsspec.implementations.local import LocalFileSystem
from pydantic_core import from_json

from engine import UserError
from engine.storage.records import RecordError

Compression = Literal["zstd", "lz4"]
LOCAL = LocalFileSystem()  # to look it up for each file takes as long as to look at the file
MIB = 2**20
MAX_JSON_BYTES = 64 * MIB  # of one record; ours have kilobytes, and parsing takes a multiple of a file's size
START_BYTES = 2**14  # of a JSON file: its first field is there
END_BYTES = 2**16  # of a Parquet file: its list of columns is there, and has a few thousand bytes
REMAKE = "remove it, so that it is made again"
PARTS = f"*.{'[0-9a-f]' * 32}.part"  # what is being written, beside its place
# What a person can do about an error of the file system.
REMEDIES = {
    errno.ENOSPC: "no space is left; free some, or use another --storage",
    errno.EDQUOT: "the disk quota is used up; free some space, or use another --storage",
    errno.EFBIG: "the file system does not allow files of this size; use another --storage",
    errno.EROFS: "the file system is read-only; make it writable, or use another --storage",
    errno.EACCES: "permission denied; change the permissions, or use another --storage",
    errno.EPERM: "permission denied; change the permissions, or use another --storage",
    errno.ENOTDIR: "a part of this path is a file, not a folder; use another --storage",
    errno.ENAMETOOLONG: "a name in this path is too long; shorten it (a trial's `label` stands for its settings)",
}
NOT_THERE = (FileNotFoundError, FileExistsError)  # what callers deal with
# The libraries that talk to object stores. They have tried several times when they raise an error of their own.
CLIENTS = ("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google")
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)  # how a file system says that it has no hard links


class StorageError(UserError):
    """Storage that is full, read-only or closed to us; the message names the path and says what to do."""


@dataclass(frozen=True, slots=True)
class Store:
    """A root address, `runs/quickstart` or `s3://bucket/study`; paths below it are relative, with slashes.

    Plain data, so that it travels to every worker; a local root becomes absolute, since workers run in other folders.
    All methods raise StorageError where the user has to make room or to give permission.
    """

    root: str

    def __post_init__(self) -> None:
        if self.is_local:
            object.__setattr__(self, "root", os.path.abspath(self.root.removeprefix("file://")))

    @property
    def is_local(self) -> bool:
        """Is it a folder of this machine (or one that all machines mount)?"""
        return "://" not in self.root.removeprefix("file://")

    def address(self, path: str) -> str:
        """The full address of a path; a local one is absolute."""
        return os.path.join(self.root, path) if self.is_local else f"{self.root.rstrip('/')}/{path}"

    # ---- one file ----------------------------------------------------------------------------------------------------

    def write_bytes(self, path: str, content: bytes) -> None:
        """Writes a file whole or not at all."""
        with self._explain_errors(path):
            if self.is_local:
                _write_beside(self.address(path), content, os.replace)
            else:
                fs, inner = self._place(path)
                fs.pipe_file(inner, content)

    def read_bytes(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        with self._explain_errors(path):
            fs, inner = self._place(path)
            return bytes(fs.cat_file(inner))

    def exists(self, path: str) -> bool:
        """Is there such a file or folder?"""
        return self._info(path) is not None

    def modified(self, path: str) -> float:
        """When a file was written, in seconds since 1970; 0 if there is none."""
        with self._explain_errors(path):
            fs, inner = self._place(path)
            try:
                return float(fs.modified(inner).timestamp())
            except (FileNotFoundError, NotADirectoryError):
                return 0.0

    def write_json(self, path: str, value: Any) -> None:
        """Writes plain data as readable JSON."""
        self.write_bytes(path, _json(value))

    def create_json(self, path: str, value: Any) -> None:
        """Writes a JSON file that must not be there yet: of several that try at once, one succeeds.

        Raises FileExistsError for the others. Object stores decide this by a conditional write (fsspec's mode
        "create": If-None-Match with s3fs from 2025.7, ifGenerationMatch with gcsfs, overwrite=False with adlfs).
        """
        with self._explain_errors(path):
            if self.is_local:
                _write_beside(self.address(path), _json(value), _link)
                return
            fs, inner = self._place(path)
            try:
                fs.pipe_file(inner, _json(value), mode="create")
            except OSError as error:  # stores differ in how they refuse
                if not self.exists(path):
                    raise
                raise FileExistsError(self.address(path)) from error

    def read_json(self, path: str, remedy: str = REMAKE) -> Any:
        """Reads what `write_json` wrote. Raises FileNotFoundError, or RecordError that ends with the remedy."""
        size, address = (self._info(path) or {}).get("size") or 0, self.address(path)
        if size > MAX_JSON_BYTES:
            limit = f"at most {MAX_JSON_BYTES / MIB:.0f} MiB are allowed"
            raise RecordError(f"{address}: {size / MIB:.0f} MiB of JSON, {limit}; {remedy}")
        try:
            return from_json(self.read_bytes(path))  # in half the time of Python's own; a study has thousands of files
        except ValueError as error:
            raise RecordError(f"{address}: not JSON ({error}); {remedy}") from error

    def read_first(self, path: str, remedy: str, *, name: str) -> Any:
        """The first field of a JSON object, whatever comes after it. Raises what `read_json` raises."""
        with self._explain_errors(path):
            fs, inner = self._place(path)
            start = fs.cat_file(inner, end=START_BYTES)
        try:
            return from_json(start, allow_partial=True)[name]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{self.address(path)}: no JSON that begins with {name!r}; {remedy}") from error

    def write_table(self, path: str, table: pl.DataFrame | pl.LazyFrame, compression: Compression = "zstd") -> None:
        """Writes a table as Parquet; a lazy one is made bit by bit, and never whole in memory.

        Of the compressions, zstd makes the smallest files, and lz4 those that are read in the shortest time.
        """
        buffer = io.BytesIO()
        if isinstance(table, pl.LazyFrame):
            table.sink_parquet(buffer, compression=compression)
        else:
            table.write_parquet(buffer, compression=compression)
        self.write_bytes(path, buffer.getvalue())

    def read_table(self, path: str, remedy: str = REMAKE, columns: list[str] | None = None) -> pl.DataFrame:
        """Reads a Parquet file, or some of its columns. Raises FileNotFoundError, or RecordError with the remedy."""
        content = self.read_bytes(path)
        try:
            return pl.read_parquet(io.BytesIO(content), columns=columns)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            why = f"not Parquet, {len(content)} bytes" if content else "an empty file"
            raise RecordError(f"{self.address(path)}: {why}; {remedy}") from error

    def scan_table(self, path: str) -> pl.LazyFrame:
        """A Parquet file as a lazy table. Raises FileNotFoundError."""
        return pl.scan_parquet(io.BytesIO(self.read_bytes(path)))

    def read_columns(self, path: str, remedy: str = REMAKE) -> list[str]:
        """The columns of a Parquet file, from its last bytes. A file that was cut raises what `read_table` raises."""
        with self._explain_errors(path):
            fs, inner = self._place(path)
            end = fs.cat_file(inner, start=-END_BYTES)
        try:
            return list(pl.read_parquet_schema(io.BytesIO(end)))
        except pl.exceptions.PolarsError:  # cut, or of so many groups of rows that their list is longer
            return self.read_table(path, remedy).columns

    # ---- room --------------------------------------------------------------------------------------------------------

    def free_bytes(self) -> int | None:
        """How much room a local disk has; None if the root is not on one."""
        if not self.is_local:
            return None
        there = next(folder for folder in (Path(self.root), *Path(self.root).parents) if folder.is_dir())
        return shutil.disk_usage(there).free

    def check_writable(self) -> None:
        """Writes a small file, reads it and removes it. Raises StorageError."""
        path, content = f"writable-{uuid.uuid4().hex}", b"Can this be read back?"
        try:
            self.write_bytes(path, content)
        except FileNotFoundError as error:
            raise StorageError(f"{self.root}: there is no such bucket; make it, or use another --storage") from error
        try:
            if self.read_bytes(path) != content:
                raise StorageError(f"{self.address(path)}: not what was written; use another --storage")
        finally:
            self.remove(path)

    # ---- folders -----------------------------------------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        """Names of all files and folders in a folder, sorted; none where there is no folder."""
        with self._explain_errors(folder):
            fs, inner = self._place(folder)
            try:
                paths = [str(path).rstrip("/") for path in fs.ls(inner, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(path.rsplit("/", 1)[-1] for path in paths if path != inner.rstrip("/"))

    def remove(self, path: str) -> None:
        """Removes a file or a folder with all in it; nothing happens where there is none."""
        with self._explain_errors(path):
            fs, inner = self._place(path)
            if self.is_local and self.exists(path):
                fs.rm(inner, recursive=True)
            elif not self.is_local:
                for file in fs.find(inner):  # not fs.rm, which takes a path for a pattern
                    fs.rm_file(file)

    def remove_parts(self) -> None:
        """Removes what killed processes left half written in the root's folders; nobody else may be writing there."""
        for part in list(Path(self.root).glob(f"*/**/{PARTS}")) if self.is_local else ():
            self.remove(str(part.relative_to(self.root)))

    def put_folder(self, folder: str, path: str) -> None:
        """Copies a local folder's files to a path; a local target appears whole."""
        with self._explain_errors(path):
            if self.is_local:
                _copy_beside(Path(folder), self.address(path))
                return
            fs, inner = self._place(path)
            files = _files_in(Path(folder))
            fs.put([str(Path(folder, file)) for file in files], [f"{inner}/{file}" for file in files])

    def local_folder(self, path: str, scratch: str) -> str:
        """The folder itself where it is local, else a copy of it below `scratch`."""
        if self.is_local:
            return self.address(path)
        fs, inner = self._place(path)
        files, copy = fs.find(inner), Path(scratch) / path
        fs.get(files, [str(copy / file[len(inner) :].lstrip("/")) for file in files])
        return str(copy)

    # ---- the file system ---------------------------------------------------------------------------------------------

    def _place(self, path: str) -> tuple[Any, str]:
        """The file system of a path, and the path in it. Listings are not cached: other machines write here, too."""
        if self.is_local:
            return LOCAL, self.address(path)
        try:
            kind: Any = fsspec.get_filesystem_class(self.root.partition("://")[0])
        except (ImportError, ValueError) as error:
            raise StorageError(f"{self.root}: {error}; install what is missing, or use another --storage") from error
        options = kind._get_kwargs_from_urls(self.root)
        return kind(use_listings_cache=False, **options), kind._strip_protocol(self.address(path))

    def _info(self, path: str) -> dict[str, Any] | None:
        """What the file system knows about a file or folder; None if there is none."""
        with self._explain_errors(path):
            fs, inner = self._place(path)
            try:
                return dict(fs.info(inner))
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextmanager
    def _explain_errors(self, path: str) -> Iterator[None]:
        """Turns an error that the user can fix into one line that says how."""
        try:
            yield
        except NOT_THERE:
            raise
        except Exception as error:
            if remedy := self._find_remedy(error):
                again = "then run the same command again"
                raise StorageError(f"{self.address(path)}: {remedy}, {again}") from error
            raise

    def _find_remedy(self, error: Exception) -> str | None:
        """What a person can do about an error; None if it is of another kind."""
        code = errno.EACCES if isinstance(error, PermissionError) else getattr(error, "errno", None)
        if code in REMEDIES:
            return REMEDIES[code]
        library = type(error).__module__.partition(".")[0]
        if not self.is_local and (isinstance(error, OSError) or library in CLIENTS):
            return f"{error}; look at the address, the credentials and the network"
        return None


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _write_beside(target: str, content: bytes, put: Callable[[str, str], None]) -> None:
    """Writes a file beside its place and puts it there; whatever happens, nothing is left beside it."""
    _make_folder(os.path.dirname(target))
    beside = f"{target}.{uuid.uuid4().hex}.part"
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put(beside, target)
    finally:
        Path(beside).unlink(missing_ok=True)


def _make_folder(path: str) -> None:
    """Makes a folder with its parents. A file in its place is not the same error as a file that exists already."""
    try:
        os.makedirs(path, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def _link(beside: str, target: str) -> None:
    """Gives a written file its place, unless there is a file. Without hard links it is created in its place."""
    try:
        os.link(beside, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(target, "xb") as file:
            file.write(Path(beside).read_bytes())


def _copy_beside(folder: Path, target: str) -> None:
    """Copies a folder beside its place and renames it; whatever happens, nothing is left beside it."""
    beside = f"{target}.{uuid.uuid4().hex}.part"
    try:
        for file in _files_in(folder):
            _make_folder(os.path.dirname(f"{beside}/{file}"))
            shutil.copyfile(folder / file, f"{beside}/{file}")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _files_in(folder: Path) -> list[str]:
    """Relative paths of all files in a local folder."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def concat(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Tables below each other; an empty table without columns if there are none."""
    tables = [t for t in tables if t.height]
    return pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame()
