"""Documents become items of a news file: by heading and length, with tables and code, and nothing lost in silence."""

import subprocess
import sys
from pathlib import Path

import docx
import pytest

from engine.authoring import documents, importing
from engine.news.format import read_records

GUIDE = """---
author: someone
---
# Night ferry

The ferry of Skarvik sails at night from 2028.

## Prices

| ticket | crowns |
|---|---|
| adult | 120 |

```python
def price(age):

    return 120 if age > 40 else 60
```

## Empty
## Preise für Gäste

Guests pay half.
"""


def import_docs(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "jobs/import_docs.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(tmp_path: Path, name: str, content: str) -> importing.Import:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return importing.read_all(importing.find_files([str(tmp_path)])[0], "team")


def test_markdown_keeps_headings_tables_and_code(tmp_path: Path) -> None:
    result = read(tmp_path, "guide.md", GUIDE)
    texts = {item["id"]: item["text"] for item in result.items}
    assert list(texts) == ["guide-night-ferry", "guide-prices", "guide-preise-fur-gaste"]
    assert texts["guide-night-ferry"] == "Night ferry\n\nThe ferry of Skarvik sails at night from 2028."
    assert texts["guide-prices"].startswith("Night ferry › Prices\n\n| ticket | crowns |\n|---|---|\n| adult | 120 |")
    assert "def price(age):\n\n    return 120 if age > 40 else 60" in texts["guide-prices"]
    assert [note.split(": ", 1)[1] for note in result.left] == [
        "front matter",
        "heading without text of its own: 'Empty'",
    ]


def test_long_sections_are_split_between_sentences_with_their_titles(tmp_path: Path) -> None:
    sentences = [f"Rule {n} of the harbour is that boats of class {n} wait." for n in range(100)]
    result = read(tmp_path, "rules.md", "# Harbour\n\n" + " ".join(sentences))
    assert len(result.items) > 3
    assert all(item["text"].startswith("Harbour\n\nRule") for item in result.items)
    assert all(len(item["text"]) <= importing.MAX_CHARACTERS for item in result.items)
    assert " ".join(i["text"].removeprefix("Harbour\n\n") for i in result.items) == " ".join(sentences)
    assert len({item["id"] for item in result.items}) == len(result.items)


def test_code_stays_whole_and_is_reported_if_it_is_long(tmp_path: Path) -> None:
    code = "```\n" + "x = 1\n" * 500 + "```"
    result = read(tmp_path, "code.md", f"# Code\n\n{code}\n")
    assert [item["text"] for item in result.items] == [f"Code\n\n{code}"]
    assert "kept whole: code-code has" in result.left[0]


def test_html_leaves_menus_and_scripts(tmp_path: Path) -> None:
    page = (
        "<nav>Home</nav><script>x()</script><h1>Ferry</h1><div>No paragraph.</div><p>It sails <b>at night</b>.</p>"
        "<ul><li>one<li>two</ul>"
        "<table><tr><th>a<th>b<tr><td>1<td>2</table><pre>if x:\n    y</pre><footer>imprint</footer>"
    )
    result = read(tmp_path, "page.html", page)
    expected = "Ferry\n\nNo paragraph.\n\nIt sails at night.\n\n- one\n- two\n\n"
    expected += "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n```\nif x:\n    y\n```"
    assert [item["text"] for item in result.items] == [expected]
    assert result.left[0].endswith("page.html: 1 × <nav>")


def test_word_headings_lists_and_tables(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("Ferry", 1)
    document.add_paragraph("It sails at night.")
    table = document.add_table(2, 2)
    for cell, text in zip((c for row in table.rows for c in row.cells), "ab12", strict=True):
        cell.text = text
    document.save(str(tmp_path / "ferry.docx"))
    sections = documents.read(tmp_path / "ferry.docx").sections
    assert [list(importing.split(s)) for s in sections if s.blocks] == [
        ["Ferry\n\nIt sails at night.\n\n| a | b |\n|---|---|\n| 1 | 2 |"]
    ]


def write_pdf(path: Path, pages: list[str]) -> None:
    """A PDF with one line of text per page, written with matplotlib."""
    from matplotlib import pyplot
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(path) as pdf:
        for text in pages:
            figure = pyplot.figure()
            figure.text(0.1, 0.5, text)
            pdf.savefig(figure)
            pyplot.close(figure)


def test_pdf_text_is_read_and_pages_without_text_are_named(tmp_path: Path) -> None:
    write_pdf(tmp_path / "ferry.pdf", ["The ferry sails at night.", ""])
    document = documents.read(tmp_path / "ferry.pdf")
    assert [b.text for s in document.sections for b in s.blocks] == ["The ferry sails at night."]
    assert document.left == ["page 2: no text, perhaps a scan"]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.pdf", b"no pdf", "cannot be read as PDF"),
        ("a.docx", b"no docx", "cannot be read as .docx"),
        ("a.md", b"caf\xe9", "not UTF-8: byte 0xe9"),
    ],
)
def test_a_document_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, line: str) -> None:
    (tmp_path / name).write_bytes(content)
    files, _ = importing.find_files([str(tmp_path)])
    assert line in importing.read_all(files, "team").left[0]


def test_the_job_writes_news_of_any_domain_and_says_what_it_left(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "guide.md").write_text(GUIDE)
    (folder / "sub" / "guide.txt").write_text("The ferry of Skarvik sails at night from 2029.\n\nIt is late.")
    (folder / "again.txt").write_text("The ferry of Skarvik sails at night from 2028.\n\nIt is late.")
    (folder / "photo.jpg").write_bytes(b"x")
    done = import_docs(folder, "--out", tmp_path / "my.jsonl", "--domain", "team-7")
    assert done.returncode == 0, done.stderr
    assert f"taken  {folder}/guide.md: 3 items" in done.stdout
    assert "photo.jpg: not one of .md" in done.stdout
    assert "nearly equal (98 of 100)  again and sub-guide: keep one of them" in done.stdout
    records = read_records(tmp_path / "my.jsonl", questions_needed=False)
    assert {r["domain"] for r in records.values()} == {"team-7"}


def test_the_job_refuses_a_domain_that_no_folder_could_have(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The ferry sails at night.")
    done = import_docs(tmp_path, "--out", tmp_path / "my.jsonl", "--domain", "our team")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("--domain: domain cannot be part of a file name: 'our team'; use 1 to 100 of")
    assert not (tmp_path / "my.jsonl").exists()
