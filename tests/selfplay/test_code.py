"""The code of a protocol is part of its pool's identity: what changes the digest, and what does not."""

import importlib
import linecache
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import UserError
from engine.selfplay import parsing, protocols
from engine.selfplay.code import code_digest
from engine.selfplay.protocols import PROTOCOLS, Protocol

Digest = Callable[..., str]

OWN = '''
from engine.selfplay.protocols import Draft, Element
import own_helpers
LIMIT = 3

def shorten(text):
    return text[:LIMIT]

def headline(news, draw):
    """Writes a headline."""
    [text] = yield [f"{news} Headline?"]  # ask once
    return Draft(elements=[Element(user="Headline?", assistant=own_helpers.tidy(shorten(text)))])
'''
HELPERS = "def tidy(text):\n    return text.strip()\n"


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Digest]:
    """The digest of a user's protocol, from the texts of its file and of a file that it imports."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file may change within a second

    def of(own: str = OWN, helpers: str = HELPERS) -> str:
        for name, text in (("own_protocol", own), ("own_helpers", helpers)):
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        linecache.clearcache()
        module = importlib.import_module("own_protocol")
        return code_digest(Protocol(name="own", write=module.headline, prompts=(), per_draw=1, distinct_by="assistant"))

    yield of
    for name in ("own_protocol", "own_helpers"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[:LIMIT]", "[: LIMIT + 1]"),  # a function that it calls
        ("LIMIT = 3", "LIMIT = 4"),  # a constant that such a function uses
        ('"Headline?", assistant', '"Title?", assistant'),  # itself
    ],
)
def test_any_change_of_a_users_code_changes_the_digest(digest: Digest, old: str, new: str) -> None:
    assert old in OWN
    assert digest(OWN.replace(old, new)) != digest()


def test_a_file_that_a_users_file_imports_counts_too(digest: Digest) -> None:
    assert digest(helpers=HELPERS.replace("strip", "lower")) != digest()


def test_comments_docstrings_and_layout_do_not_count(digest: Digest) -> None:
    other = OWN.replace("# ask once", "# ask").replace("Writes a headline.", "Asks.").replace("LIMIT = 3", "LIMIT=3\n")
    assert digest(other) == digest()


def test_what_has_no_fixed_text_is_refused_with_its_name(digest: Digest) -> None:
    with pytest.raises(UserError, match=r"own_protocol\.LIMIT is used by a protocol and is a object"):
        digest(OWN.replace("LIMIT = 3", "LIMIT = object()").replace("[:LIMIT]", "[:hash(LIMIT)]"))


def test_a_changed_parser_changes_the_pools_of_all_protocols_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: code_digest(protocol) for name, protocol in PROTOCOLS.items()}
    monkeypatch.setattr(parsing, "REFUSAL", re.compile("never"))
    after = {name: code_digest(protocol) for name, protocol in PROTOCOLS.items()}
    changed = {name for name in before if before[name] != after[name]}
    assert {"paraphrase", "implication", "self_qa"} <= changed
    assert "naive" not in changed


def test_a_changed_rule_for_duplicates_changes_all_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_digest(PROTOCOLS["naive"])
    monkeypatch.setattr(protocols, "NEAR_DUPLICATE_RATIO", 80.0)
    assert code_digest(PROTOCOLS["naive"]) != before
