"""A user's protocol that breaks the rules is found before any engine starts, with file, line and what is expected."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CPU

from engine import UserError
from engine.planning import plan, rehearsal, shipped
from engine.planning.plan import Refused
from engine.selfplay import protocols
from engine.selfplay.scripts import MAX_STAGES
from engine.storage.ledger import Ledger
from engine.storage.store import Store

NEWS = "The ferry from Lindvik to Tarsund is free of charge for cyclists from 1 June 2028."
OWN = """
from collections import Counter
from engine.selfplay.protocols import Draft, Element, keep_text, protocol
from engine.study import Study, grid

@protocol("own", prompts=[])
def own(news, draw):
    BODY

def mine():
    return Study(name="s", n_items=1, trials=grid(trainees=["smollm2-135m"], domains=["events"], protocols=["own"]))
"""
ASK = '[text] = yield ["Say something."]; '


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", dict(protocols.PROTOCOLS))


def plan_own(body: str, folder: Path) -> None:
    file = folder / "own_study.py"
    file.write_text(OWN.replace("BODY", body))
    plan.plan(shipped.load(f"{file}:mine"), Ledger(Store(str(folder / "runs"))), CPU)


@pytest.mark.parametrize(
    ("body", "line", "fault"),
    [
        ("raise KeyError('news')", 8, "raised KeyError"),
        (ASK + "import sys; sys.exit(3)\n    yield", 8, "raised SystemExit"),
        (ASK + "\n    return keep_text(json(text), user='?', news=news)", 9, "raised NameError"),
        ("pass", 6, "gave None at once; first `yield` a list of prompts"),
        ("return ['Say something.']", 6, "gave ['Say something.'] at once"),
        (ASK, 6, "returned None; `return` a Draft"),
        (ASK + "return [text]", 6, "returned ["),
        ("yield 'Say something.'", 8, "yields 'Say something.'; yield a list of prompts"),
        ("\n    yield", 9, "yields None; yield a list"),
        ("yield []", 8, "yields []; yield a list"),
        ("yield [3]", 8, "yields the prompt 3"),
        ("yield ['']", 8, "yields the prompt ''"),
        ("yield ['\\ud83d']", 8, "yields the prompt"),
        ("yield ['x'] * 5000", 8, "yields 5000 prompts at once"),
        ("while True:\n        yield ['More?']", 9, f"yields more than {MAX_STAGES} times"),
        (ASK + "return Draft(elements=[Element(user='?', assistant=' ')])", 6, "gives an element without text"),
        (ASK + "return Draft(elements=[Element(user='?', assistant=3)])", 6, "returned the element"),
        (ASK + "return Draft(elements=[text])", 6, "returned the element"),
        (ASK + "return Draft(elements=text)", 6, "returned a Draft whose `elements` is no list"),
        (
            ASK + "return Draft(dropped={'short': 1})",
            6,
            "returned a Draft whose `elements` is no list, or whose `dropped` is",
        ),
        (ASK + "return Draft(dropped=Counter({'short': 1.5}))", 6, "returned dropped=('short', 1.5)"),
    ],
)
def test_a_script_that_breaks_the_rules_is_refused(body: str, line: int, fault: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        plan_own(body, tmp_path)
    assert f"{tmp_path}/own_study.py:{line}: protocol 'own' {fault}" in str(refused.value)
    assert "0x" not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        ASK + "return keep_text(text, user='?', news=news)",
        ASK + "return Draft(dropped=Counter({'of no use': 1}))",  # nothing kept is no fault
        "\n    for n in range(30):\n        texts = yield ['a', 'b']\n    return Draft()",
        "return Draft()\n    yield",
    ],
)
def test_a_sound_script_is_planned(body: str, tmp_path: Path) -> None:
    plan_own(body, tmp_path)


def test_a_script_that_never_comes_back_is_left_behind(monkeypatch: pytest.MonkeyPatch, stop: threading.Event) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0.5)

    @protocols.protocol("endless", prompts=[])
    def endless(news: str, draw: int) -> protocols.Script:
        while not stop.is_set():
            stop.wait(0.01)
        yield [news]
        return protocols.Draft()

    [fault] = rehearsal.find_faults(protocols.find("endless"), NEWS)
    first = endless.__code__.co_firstlineno
    assert any(f"{__file__}:{first + n}: protocol 'endless' has not come to a" in fault for n in (2, 3))


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("name", ["naive", "paraphrase", "implication", "self_qa"])
def test_the_shipped_protocols_pass_their_rehearsal(name: str) -> None:
    assert rehearsal.find_faults(protocols.find(name), NEWS) == []


def test_a_bug_of_ours_is_not_reported_as_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "COMPLETIONS", None)
    with pytest.raises(TypeError):
        rehearsal.find_faults(protocols.find("paraphrase"), NEWS)


# ---- two functions of one name ---------------------------------------------------------------------------------------

STUDY = """from engine.study import Study, grid
def mine():
    return Study(name="s", trials=grid(trainees=["m"], domains=["events"], protocols=["naive"]))
"""
HEADLINE = """
from engine.selfplay.protocols import protocol
@protocol("NAME", prompts=[])
def headline(news, draw):
    yield
"""


def load(folder: Path, name: str = "headline", times: int = 1) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "own.py"
    file.write_text(STUDY + HEADLINE.replace("NAME", name) * times)
    shipped.load(f"{file}:mine")
    return str(file)


def test_two_files_with_one_protocol_are_refused_with_both_places(tmp_path: Path) -> None:
    first = load(tmp_path / "a")
    with pytest.raises(UserError) as refused:
        load(tmp_path / "b")
    assert f"'headline' is registered twice: {first}:6 and {tmp_path}/b/own.py:6" in str(refused.value)
    assert "0x" not in str(refused.value)


@pytest.mark.parametrize("name", ["naive", "paraphrase"])
def test_a_shipped_protocol_is_not_replaced(name: str, tmp_path: Path) -> None:
    before = protocols.find(name)
    with pytest.raises(UserError, match=rf"engine/selfplay/protocols.py.* and {tmp_path}/own.py:6"):
        load(tmp_path, name)
    assert protocols.find(name) is before


def test_one_file_that_defines_a_protocol_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"own.py:6 and .*own.py:11"):
        load(tmp_path, times=2)


def test_a_file_may_be_loaded_again(tmp_path: Path) -> None:
    load(tmp_path)
    load(tmp_path)


def test_only_a_function_is_a_protocol() -> None:
    with pytest.raises(UserError, match="write it as a function"):
        protocols.protocol("own", prompts=[])(type("Own", (), {}))


def test_what_a_protocol_is_declared_with_is_checked_at_once() -> None:
    def own(news: str, draw: int) -> protocols.Script:
        yield [news]
        return protocols.Draft()

    with pytest.raises(UserError) as refused:
        protocols.protocol("own", prompts="Say.", per_draw=0, distinct_by="text")(own)  # type: ignore[arg-type]
    place = f"{__file__}:{own.__code__.co_firstlineno}: protocol 'own': "
    assert str(refused.value).splitlines() == [
        f"{place}prompts is 'Say.'; use a list of texts",
        f"{place}per_draw is 0; use a whole number from 1 to {protocols.MAX_PROMPTS}",
        f"{place}distinct_by is 'text'; use 'user' or 'assistant'",
    ]
    assert "own" not in protocols.PROTOCOLS
