"""Makes news items of documents: one item per section, or several where a section is long. Its titles stand in each."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rapidfuzz import fuzz, process

from engine import UserError
from engine.authoring import documents
from engine.authoring.documents import Block, Section

MAX_CHARACTERS = 1_200  # of an item, about 300 tokens: one idea, and short enough for the context of small models
MAX_ID = 80  # characters; the format allows 100
NEAR_DUPLICATE = 90  # rapidfuzz's ratio, from 0 to 100
# A sentence ends at . ! ? before a space, or at a full stop of Chinese and Japanese.
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
NOT_PRINTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")

Record = dict[str, Any]  # an item as a news file has it


@dataclass(frozen=True, slots=True)
class Import:
    """Items of documents; `taken`: their number per file; `left`: what was left out, and notes, one line each."""

    items: list[Record] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    near: list[tuple[str, str, float]] = field(default_factory=list)


def find_files(paths: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The documents in files and folders, by the name that their ids begin with; and what is of another type.

    Hidden files are not looked at. Raises UserError for a path that is not there.
    """
    found: dict[str, Path] = {}
    left: list[str] = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder; check the path")
        for file in sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]:
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            if any(part.startswith(".") for part in name.parts):
                continue
            if file.suffix.lower() in documents.READERS:
                found[str(name) if str(name) not in found else str(file)] = file
            else:
                left.append(f"{file}: not one of {', '.join(documents.READERS)}")
    return found, left


def read_all(files: dict[str, Path], domain: str) -> Import:
    """Reads documents as items. A document that cannot be read is left out, with its reason."""
    result = Import()
    seen: dict[str, str] = {}
    ids: set[str] = set()
    for name, path in files.items():
        try:
            document = documents.read(path)
        except UserError as error:
            result.left.append(str(error))
            continue
        result.left.extend(f"{path}: {what}" for what in document.left)
        before = len(result.items)
        for section in document.sections:
            add_section(result, section, name, domain, seen, ids)
        result.taken[str(path)] = len(result.items) - before
        if len(result.items) == before:
            result.left.append(f"{path}: no text that is new")
    result.near.extend(find_near_duplicates(result.items))
    return result


def add_section(result: Import, section: Section, file: str, domain: str, seen: dict[str, str], ids: set[str]) -> None:
    """Adds a section's items to `result`; `seen`: the ids of texts so far, `ids`: those in use."""
    if not section.blocks and section.titles:
        result.left.append(f"{file}: heading without text of its own: {section.titles[-1]!r}")
    for text in split(section):
        name = make_id(file, section.titles, ids)
        if (first := seen.setdefault(text, name)) != name:
            result.left.append(f"{file}: same text as {first}")
            continue
        ids.add(name)
        result.items.append({"id": name, "domain": domain, "text": text, "questions": []})
        if len(text) > MAX_CHARACTERS:
            result.left.append(
                f"{file}: kept whole: {name} has {len(text)} characters, since code and tables stay whole"
            )


def split(section: Section) -> Iterator[str]:
    """The texts of a section's items, each below the section's titles."""
    title = " › ".join(section.titles)
    blocks = [part for block in section.blocks for part in split_block(block, MAX_CHARACTERS - len(title))]
    text = ""
    for part in blocks:
        if text and len(title) + len(text) + len(part) > MAX_CHARACTERS:
            yield join(title, text)
            text = ""
        text = join(text, part)
    if text:
        yield join(title, text)


def split_block(block: Block, limit: int) -> list[str]:
    """A block in parts of at most `limit` characters, cut at lines of a list, else between sentences."""
    text = NOT_PRINTED.sub("", block.text)
    if block.kind != "text" or len(text) <= limit:
        return [text]
    lines = text.split("\n")
    glue, pieces = ("\n", lines) if all(len(line) <= limit for line in lines) else (" ", SENTENCE_END.split(text))
    parts: list[str] = []
    for piece in pieces:
        if parts and len(parts[-1]) + len(piece) < limit:
            parts[-1] += glue + piece
        else:
            parts.append(piece)
    return parts


def join(first: str, second: str) -> str:
    return f"{first}\n\n{second}" if first else second


def make_id(file: str, titles: Sequence[str], used: set[str]) -> str:
    """An id from the file's name and the last heading, with a number where that is in use."""
    words = [slug(str(Path(file).with_suffix(""))), *map(slug, titles[-1:])]
    name = "-".join(word for word in words if word)[:MAX_ID].strip("-") or "item"
    number = 2
    unique = name
    while unique in used:
        unique, number = f"{name}-{number}", number + 1
    return unique


def slug(text: str) -> str:
    """Its letters and digits in ASCII, in lower case, joined by `-`; empty if it has none."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return "-".join(re.findall(r"[a-z0-9]+", plain))


def find_near_duplicates(items: Sequence[Record]) -> Iterator[tuple[str, str, float]]:
    """Pairs of nearly equal items, with their similarity (0 to 100). Each item is compared with those before it."""
    texts = [item["text"] for item in items]
    for n, text in enumerate(texts):
        match = process.extractOne(text, texts[:n], scorer=fuzz.ratio, score_cutoff=NEAR_DUPLICATE)
        if match:
            yield items[match[2]]["id"], items[n]["id"], match[1]
