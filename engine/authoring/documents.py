"""Reads documents as sections: Markdown, plain text, HTML, PDF and Word, each by a library of the extra `docs`.

A section is what stands below one heading. Its blocks are paragraphs, lists, tables and code, in their order; tables of
HTML and Word become Markdown tables. What is not read (scripts, menus, pages without text) is reported.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine import UserError

Kind = Literal["text", "code", "table"]


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a section. Texts may be split further; code and tables stay whole."""

    text: str
    kind: Kind = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """What stands below one heading. `titles`: that heading and those above it, the highest first."""

    titles: tuple[str, ...] = ()
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A file's sections, and what of it was left out, with the reason."""

    sections: list[Section]
    left: list[str] = field(default_factory=list)


Part = tuple[int, str] | Block  # a heading with its level (from 1), or a block
MARKDOWN_CODE = ("fence", "code_block")
NO_CONTENT = ["script", "style", "nav", "footer", "aside", "form", "noscript", "template"]
# What HTML becomes: headings with #, no signs for links, pictures and bold text, none added before * and _.
AS_MARKDOWN: dict[str, Any] = {
    "heading_style": "ATX",
    "bullets": "-",
    "strip": ["a", "img", "b", "strong", "i", "em"],
    "escape_asterisks": False,
    "escape_underscores": False,
}
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
HYPHENATED = re.compile(r"(?<=\w)-\n(?=[a-zà-ÿ])")  # a word that a PDF breaks at the end of a line
MANY_PAGES = 3  # from so many on, a line that most of them share is a running title


def read(path: Path) -> Document:
    """Reads one file by its suffix. Raises UserError if it cannot be read, or if the extra `docs` is not installed."""
    try:
        return READERS[path.suffix.lower()](path)
    except ImportError as error:
        remedy = "install it with: .venv/bin/uv pip install -e '.[docs]'"
        raise UserError(f"{path}: needs the package {error.name}; {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: byte {error.object[error.start]:#x}; save the file as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_markdown(path: Path) -> Document:
    text = path.read_text(encoding="utf-8-sig")
    body = FRONT_MATTER.sub("", text)
    return Document(sections=parse_markdown(body), left=["front matter"] if body != text else [])


def parse_markdown(text: str) -> list[Section]:
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    return list(group(markdown_parts(tokens, text.splitlines())))


def markdown_parts(tokens: Sequence[Any], lines: Sequence[str]) -> Iterator[Part]:
    """The headings and blocks of a parsed text; a block is copied as it is written."""
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.level or token.map is None or token.type == "hr":
            continue
        if token.type == "heading_open" and following is not None:
            yield int(token.tag[1:]), following.content
        elif token.type != "html_block":
            yield Block("\n".join(lines[slice(*token.map)]).rstrip(), markdown_kind(token.type))


def markdown_kind(token_type: str) -> Kind:
    if token_type in MARKDOWN_CODE:
        return "code"
    return "table" if token_type == "table_open" else "text"


def read_text(path: Path) -> Document:
    text = path.read_text(encoding="utf-8-sig")
    return Document(sections=list(group(Block(paragraph) for paragraph in paragraphs(text))))


def paragraphs(text: str) -> list[str]:
    """The parts of a text between blank lines."""
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]


def read_html(path: Path) -> Document:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(path.read_bytes(), "lxml")
    left = Counter(tag.name for tag in soup.find_all(NO_CONTENT) if tag.get_text(strip=True))
    for tag in soup.find_all([*NO_CONTENT, "title"]):
        tag.decompose()
    body = MarkdownConverter(**AS_MARKDOWN).convert_soup(soup)
    return Document(sections=parse_markdown(body), left=[f"{n} × <{name}>" for name, n in left.items()])


def read_pdf(path: Path) -> Document:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        pages = [page.extract_text() for page in PdfReader(path).pages]
    except PyPdfError as error:
        raise UserError(f"{path}: cannot be read as PDF: {error}; save it without a password, or as text") from error
    empty = [f"page {n}: no text, perhaps a scan" for n, page in enumerate(pages, 1) if not page.strip()]
    running = running_titles(pages)
    parts = (part for page in pages for part in paragraphs(drop_lines(page, running)))
    blocks = (Block(" ".join(HYPHENATED.sub("", part).split())) for part in parts)
    return Document(sections=list(group(blocks)), left=empty + [f"running title {line!r}" for line in sorted(running)])


def running_titles(pages: Sequence[str]) -> set[str]:
    """The lines that more than half of many pages have."""
    counts = Counter(line for page in pages for line in {line.strip() for line in page.splitlines()} if line)
    return {line for line, n in counts.items() if len(pages) >= MANY_PAGES and n > len(pages) / 2}


def drop_lines(page: str, lines: set[str]) -> str:
    return "\n".join(line for line in page.splitlines() if line.strip() not in lines)


def read_docx(path: Path) -> Document:
    from docx import Document as open_docx
    from docx.opc.exceptions import PackageNotFoundError

    try:
        content = open_docx(str(path))
    except (PackageNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as .docx; save it again from a word processor") from error
    return Document(sections=list(group(docx_parts(content.iter_inner_content()))))


def docx_parts(content: Iterable[Any]) -> Iterator[Part]:
    """The headings, paragraphs and tables of a Word document. A list is one block."""
    for part in content:
        if hasattr(part, "rows"):
            yield Block(format_table([[one_line(cell.text) for cell in row.cells] for row in part.rows]), "table")
        elif part.text.strip():
            style = part.style.name if part.style else ""
            if level := re.fullmatch(r"Heading (\d)", style):
                yield int(level[1]), one_line(part.text)
            elif style == "Title":
                yield 1, one_line(part.text)
            else:
                yield Block(f"- {part.text}" if style.startswith("List") else part.text)


def group(parts: Iterable[Part]) -> Iterator[Section]:
    """Sections from headings and blocks. A heading ends those of its level and below."""
    titles: dict[int, str] = {}
    section = Section()
    for part in parts:
        if isinstance(part, Block):
            section.blocks.append(part)
            continue
        yield section
        level, title = part
        titles = {n: t for n, t in titles.items() if n < level} | {level: title}
        section = Section(titles=tuple(titles.values()))
    yield section


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows if row]
    rule = f"|{'---|' * len(rows[0])}" if rows else ""
    return "\n".join([*lines[:1], rule, *lines[1:]])


def one_line(text: str) -> str:
    return " ".join(text.split())


READERS: Mapping[str, Callable[[Path], Document]] = {
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
}
