"""Digests of files: what was written is what is read. They find damage; whoever can write the files can forge both."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def digest_file(file: Path) -> str:
    """SHA-256 of a file's content, in hex. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_files(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path in it; not of hidden files and notes, which no engine reads."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix != ".md" and not f.name.startswith("."))
    return {file.relative_to(folder).as_posix(): digest_file(file) for file in files}


def find_damage(folder: Path, expected: Mapping[str, str]) -> str | None:
    """What is wrong with the first file that is not as expected, or None. Raises OSError."""
    if not folder.is_dir():
        return f"{folder}: missing"
    found = digest_files(folder)
    for name in sorted(expected.keys() | found.keys()):
        file = folder / name
        if name not in found:
            return f"{file}: missing"
        if name not in expected:
            return f"{file}: nothing wrote this file"
        if found[name] != expected[name]:
            return f"{file}: damaged (SHA-256 is {found[name][:12]}…, was {expected[name][:12]}… when written)"
    return None
