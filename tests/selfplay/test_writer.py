"""A script that misbehaves while it runs fails its own order, with file and line; all other draws are written."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import SERVING, write_news

from engine.news.items import NewsItem, load_news
from engine.selfplay import phase, pool, protocols
from engine.selfplay.orders import Generator, Order, protocols_of, to_row
from engine.selfplay.protocols import Draft, Element, Protocol, Script
from engine.selfplay.scripts import MAX_STAGES
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Sampling

FIRST, SECOND = (i for i in load_news() if i.id in {"events-01", "events-02"})


def sound(news: str, draw: int) -> Script:
    [text] = yield ["Say something."]
    return Draft(elements=[Element(user="?", assistant=f"{draw} {text}")])


def raises_late(news: str, draw: int) -> Script:
    [text] = yield ["Say something."]
    if draw == 2:
        raise KeyError(text)
    return Draft(elements=[Element(user="?", assistant=f"{draw} {text}")])


def raises_on_one_item(news: str, draw: int) -> Script:
    if news == FIRST.text:
        raise KeyError(news)
    return (yield from sound(news, draw))


def never_ends(news: str, draw: int) -> Script:
    while True:
        yield ["More?"]


def asks_too_much(news: str, draw: int) -> Script:
    yield ["word " * 2000]
    return Draft()


def half_blank(news: str, draw: int) -> Script:
    [text] = yield ["Say something."]
    return Draft(elements=[Element(user="?", assistant=" "), Element(user="?", assistant=f"{draw} {text}")])


def of(write: Callable[[str, int], Script]) -> Protocol:
    return Protocol(name=write.__name__, write=write, prompts=(), per_draw=1, distinct_by="assistant")


def order(write: Callable[[str, int], Script], item: NewsItem = FIRST, wanted: int = 4) -> Order:
    return Order(item=item, protocol=of(write), sampling=Sampling(), pool=write.__name__, source="s", wanted=wanted)


class Tokenizer:
    def apply_chat_template(self, messages: Any, **_: Any) -> str:
        return str(messages[0]["content"])

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(range(len(text.split())))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path)))


@pytest.fixture
def written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs orders through the real writer, on an engine that answers every prompt by its number."""
    from engine.selfplay import writer

    def stream(_: Any, requests: Iterable[Any], follow_up: Callable[..., Iterable[Any]]) -> Iterator[None]:
        waiting = list(requests)
        for n, request in enumerate(waiting):
            answer = SimpleNamespace(text=f"ferry {n}", token_ids=[n], finish_reason="stop")
            waiting += follow_up(request.tag, SimpleNamespace(outputs=[answer]))
            yield

    def run(*orders: Order) -> dict[str, Any]:
        monkeypatch.setattr(writer.vllm_engine, "stream", stream)
        monkeypatch.setattr(writer.progress, "report", lambda **changes: counts.update(changes))
        counts.clear()
        made = writer.Writer.__new__(writer.Writer)
        made.llm, made.tokenizer, made.ledger = None, Tokenizer(), ledger
        made.protocols = protocols_of(orders)
        made.generator = Generator(name="m", revision="r", precision="float32", serving=SERVING, max_context=1024)
        sent = [to_row(o) for o in orders]
        rows = made({column: [row[column] for row in sent] for column in sent[0]})
        assert counts["done"] == len(orders)  # none is left open
        return dict(zip(rows["pool"], rows["fault"], strict=True))

    counts: Counter[str] = Counter()
    return run


@pytest.mark.parametrize(
    ("script", "lines", "fault"),
    [
        (raises_late, 3, "raised KeyError"),
        (raises_on_one_item, 2, "raised KeyError"),
        (never_ends, 2, f"yields more than {MAX_STAGES} times"),
        (asks_too_much, 1, "yields a prompt of 2000 tokens; m takes at most 1023"),
        (lambda news, draw: None, 0, "gave None at once"),
    ],
)
def test_a_script_that_misbehaves_fails_its_own_order(
    script: Callable[[str, int], Script], lines: int, fault: str, written: Any, ledger: Ledger
) -> None:
    faults = written(order(script), order(sound))
    line = script.__code__.co_firstlineno + lines
    assert f"{__file__}:{line}: protocol {script.__name__!r} {fault}" in faults[script.__name__]
    assert FIRST.id in faults[script.__name__]
    assert faults["sound"] == ""
    assert len(pool.read_draws(ledger, "sound")[FIRST.id]) == 4


def test_the_other_draws_and_items_of_a_failed_protocol_are_kept(written: Any, ledger: Ledger) -> None:
    written(order(raises_late))
    assert [d.number for d in pool.read_draws(ledger, "raises_late")[FIRST.id]] == [0, 1, 3]
    written(order(raises_on_one_item), order(raises_on_one_item, SECOND))
    assert list(pool.read_draws(ledger, "raises_on_one_item")) == [SECOND.id]


def test_elements_without_text_are_dropped_and_counted(written: Any, ledger: Ledger) -> None:
    assert written(order(half_blank)) == {"half_blank": ""}
    for draw in pool.read_draws(ledger, "half_blank")[FIRST.id]:
        assert len(draw.draft.elements) == 1
        assert draw.draft.dropped == Counter({"no text": 1})


def test_the_trials_that_use_a_failed_pool_fail_with_its_reason(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(protocols.PROTOCOLS, "raises_on_one_item", of(raises_on_one_item))
    draws = [
        pool.Draw(item=SECOND.id, number=n, draft=Draft(elements=[Element(user="?", assistant=f"{n} ferry")]))
        for n in range(3)
    ]
    ledger.put_elements("p", pool.elements_table({SECOND.id: draws}, of(raises_on_one_item), [FIRST, SECOND], 3))
    users: Any = [
        SimpleNamespace(trial=SimpleNamespace(protocol="raises_on_one_item", budget=b, key=f"n{b}"), items=items)
        for b, items in ((2, (FIRST, SECOND)), (3, (SECOND,)), (4, (SECOND, FIRST)))
    ]
    failures = list(phase.failures("p", users, ledger, {("p", FIRST.id): "own.py:3: protocol 'p' raised KeyError"}))
    assert [(f.key, f.reason) for f in failures] == [
        (k, "own.py:3: protocol 'p' raised KeyError") for k in ("n2", "n4")
    ]


# ---- the whole job ---------------------------------------------------------------------------------------------------

STUDY = """
from engine.selfplay.protocols import Draft, Element, protocol
from engine.study import Sampling, Study, Training, grid

@protocol("sound", prompts=[])
def sound(news, draw):
    [text] = yield ["Say something."]
    return Draft(elements=[Element(user="What was said?", assistant=f"{draw}: {text} {draw * 7919}")])

@protocol("unsound", prompts=[])
def unsound(news, draw):
    [text] = yield ["Say something."]
    assert "ferry" in text or "Ferry" in text, "no ferry"
    return Draft(elements=[Element(user="What was said?", assistant=text)])

def study():
    return Study(name="own", news="news.jsonl", trials=grid(
        trainees=["MODEL"], domains=["events"], protocols=["sound", "unsound"], budgets=[2], forms=("choice",),
        sampling=Sampling(max_tokens=8), training=Training(epochs=1, lora_rank=8),
    ))
"""


@pytest.mark.slow
def test_one_unsound_protocol_does_not_stop_a_study(tmp_path: Path, tiny: Path) -> None:
    import subprocess

    write_news(tmp_path)
    (tmp_path / "own.py").write_text(STUDY.replace("MODEL", str(tiny)))
    args = ["jobs/grid.py", "--study", f"{tmp_path}/own.py:study", "--storage", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 1, done.stderr
    assert f"{tmp_path}/own.py:13: protocol 'unsound' raised AssertionError: 'no ferry'" in done.stderr
    assert "1 failed" in done.stdout
    assert len(list(tmp_path.glob("runs/own/trials/*/result.json"))) == 1
