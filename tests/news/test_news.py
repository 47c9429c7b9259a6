"""A file of news loads completely or not at all; a fault is reported with file and line; the shipped news is sound."""

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.news import format
from engine.news.items import DOMAINS, NewsError, NewsItem, Question, check_length, load_news


def question(**changes: Any) -> dict[str, Any]:
    return {"text": "When does the ferry sail?", "options": ["by night", "by day"], "answer": "by night"} | changes


def item(**changes: Any) -> dict[str, Any]:
    return {"id": "a-1", "domain": "events", "text": "The ferry sails at night.", "questions": [question()]} | changes


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


def write(path: Path, *records: Any) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_faults(path: Path) -> list[str]:
    with pytest.raises(NewsError) as error:
        load_news(path)
    return str(error.value).split("\n")


def test_an_item_is_read_with_question_ids_from_positions_and_its_line(tmp_path: Path) -> None:
    two = [question(), question(text="And in winter?", answer="by day")]
    items = load_news(write(tmp_path / "my.jsonl", "", item(questions=two)))
    answers = [(q.id, q.options[q.answer]) for q in items[0].questions]
    assert answers == [("a-1/q1", "by night"), ("a-1/q2", "by day")]
    assert items[0].line == 2


def test_statements_and_a_task_are_read_with_ids_of_their_own(tmp_path: Path) -> None:
    pair = {"true": "The ferry sails at 23:00.", "false": "The ferry sails at 11:00."}
    record = item(
        statements=[pair], task={"text": "At 23:00?", "answers": ["yes"]}, questions=[question(kind="recall")]
    )
    [news] = load_news(write(tmp_path / "my.jsonl", record))
    assert [(s.id, s.true, s.false) for s in news.statements] == [("a-1/s1", *pair.values())]
    assert news.task is not None
    assert (news.task.id, news.task.answers) == ("a-1/t", ("yes",))
    assert news.questions[0].kind == "recall"


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(item()).encode() + b"\r\n" + json.dumps(item(id="b")).encode())
    assert [news.id for news in load_news(str(path))] == ["a-1", "b"]


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ('{"id": "a-1",', "not a JSON object: "),
        ("[" * 100_000, "not a JSON object: "),
        ([1, 2], "not a JSON object: '[1, 2]'; "),
        (without(item(), "text"), "missing field: 'text'; add it"),
        (item(note="x"), "unknown field: 'note'; remove it"),
        (item(text=7), "text has the wrong type: 7; write a text"),
        (item(questions="q"), "questions has the wrong type: 'q'; write a list"),
        (item(text=" \n"), "text is empty: ' \\n'; "),
        (item(text="\ud800"), "text contains half a character: '\\ud800'; "),
        (item(domain="our sports"), "domain cannot be part of a file name: 'our sports'; "),
        (without(item(), "questions"), "missing field: 'questions'; write at least one question, or let jobs/write_"),
        (item(id="a/b"), "id cannot be part of a file name: 'a/b'; "),
        (item(id=".."), "id cannot be part of a file name: '..'; "),
        (item(id="a" * 101), "id cannot be part of a file name: "),
        (item(questions=[]), "no questions: []; "),
        (item(questions=["q"]), "question 1: not a JSON object: 'q'; "),
        (item(questions=[without(question(), "answer")]), "question 1: missing field: 'answer'; add it"),
        (item(questions=[question(right=0)]), "question 1: unknown field: 'right'; "),
        (item(questions=[question(text="")]), "question 1: text is empty: ''; "),
        (item(questions=[question(options=["by night"])]), "question 1: fewer than 2 options: ['by night']; "),
        (item(questions=[question(options=["by night", " "])]), "question 1: option 2 is empty: ' '; "),
        (item(questions=[question(options=["by night", 5])]), "question 1: option 2 has the wrong type: 5; "),
        (
            item(questions=[question(options=["by night", "By  night"])]),
            "question 1: option 2 repeats option 1: 'By  night'; ",
        ),
        (item(questions=[question(kind="hard")]), "question 1: unknown kind: 'hard'; use one of recall, "),
        (item(questions=[question(kind=3)]), "question 1: kind has the wrong type: 3; write a text"),
        (item(questions=[question(draft="yes")]), "question 1: draft has the wrong type: 'yes'; write true or false"),
        (item(statements="s"), "statements has the wrong type: 's'; write a list"),
        (item(statements=["s"]), "statements 1: not a JSON object: 's'; "),
        (item(statements=[{"true": "It sails."}]), "statements 1: missing field: 'false'; add it"),
        (item(statements=[{"true": "It sails.", "false": "It sails."}]), "statements 1: true and false are the same: "),
        (item(task="t"), "task has the wrong type: 't'; write a JSON object"),
        (item(task={"text": "When?", "answers": []}), "task: no answers: []; "),
        (item(task={"text": "When?", "answers": [22]}), "task: answer 1 has the wrong type: 22; "),
        (item(questions=[question(answer="at noon")]), "question 1: answer is not one of the options: 'at noon'; "),
        (
            item(questions=[question(), question(text="when does the ferry sail? ")]),
            "question 2 repeats question 1: 'when does the ferry sail? '; ",
        ),
    ],
)
def test_a_fault_is_reported_with_file_line_value_and_remedy(tmp_path: Path, record: Any, fault: str) -> None:
    path = write(tmp_path / "my.jsonl", item(id="sound"), record)
    [message] = read_faults(path)
    assert message.startswith(f"{path}:2: {fault}")
    _, _, remedy = message.partition("; ")
    assert remedy.split()[0] in {"write", "add", "remove", "use", "copy", "change"}


def test_statements_with_neither_true_nor_false_are_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "my.jsonl", item(statements=[{"right": "It sails.", "wrong": "It stays."}]))
    whats = [fault.removeprefix(f"{path}:1: statements 1: ").partition(";")[0] for fault in read_faults(path)]
    assert whats == [
        "missing field: 'true'",
        "missing field: 'false'",
        "unknown field: 'right'",
        "unknown field: 'wrong'",
    ]


def test_all_faults_of_a_file_are_reported_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    broken = item(domain="a/b", text="", questions=[question(answer="?"), question(options=[])])
    path = write(tmp_path / "my.jsonl", item(), "no json", broken, item(id="B", questions=[]))
    assert [fault.removeprefix(f"{path}:").split(": ")[:2] for fault in read_faults(path)] == [
        ["2", "not a JSON object"],
        ["3", "text is empty"],
        ["3", "domain cannot be part of a file name"],
        ["3", "question 1"],
        ["3", "question 2"],
        ["3", "question 2"],
        ["3", "question 2 repeats question 1"],
        ["3", "id in line 3 repeats id in line 1"],
        ["4", "no questions"],
    ]


def test_ids_that_differ_only_in_case_are_refused_with_the_first_line(tmp_path: Path) -> None:
    path = write(tmp_path / "my.jsonl", item(id="ferry"), item(id="bridge"), item(id="Ferry"))
    assert read_faults(path) == [f"{path}:3: id in line 3 repeats id in line 1: 'Ferry'; change one of them"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "1: cannot be read: No such file or directory; check the path"),
        (b"", "1: no news in the file: ''; write one item per line"),
        (b" \n\n", "1: no news in the file: ' \\n\\n'; write one item per line"),
        (b"\n{\xff}", "2: not UTF-8: byte 0xff; save the file as UTF-8"),
    ],
)
def test_a_file_without_readable_news_is_refused(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "my.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert read_faults(path) == [f"{path}:{fault}"]


def test_items_longer_than_the_context_are_all_reported(tmp_path: Path) -> None:
    long = item(id="long", text="word " * 50)
    long_question = item(id="ask", questions=[question(), question(text="why " * 50)])
    path = write(tmp_path / "my.jsonl", long, item(id="fits"), long_question)
    with pytest.raises(NewsError) as error:
        check_length(load_news(path), path, lambda text: len(text.split()), 40, "tiny-model")
    remedy = "shorten to 40 in total, or choose another model"
    assert str(error.value).split("\n") == [
        f"{path}:1: too long for tiny-model: long, text 50 + longest question 9 tokens; {remedy}",
        f"{path}:3: too long for tiny-model: ask, text 5 + longest question 54 tokens; {remedy}",
    ]


def test_an_item_of_exactly_the_context_passes(tmp_path: Path) -> None:
    path = write(tmp_path / "my.jsonl", item())
    check_length(load_news(path), path, lambda text: len(text.split()), 5 + 9, "tiny-model")
    with pytest.raises(NewsError):
        check_length(load_news(path), path, lambda text: len(text.split()), 5 + 8, "tiny-model")


def test_shipped_news_has_the_documented_counts() -> None:
    items = load_news()
    assert Counter(news.domain for news in items) == dict.fromkeys(DOMAINS, 20)
    assert {len(news.questions) for news in items} == {5}
    assert {len(q.options) for news in items for q in news.questions} == {4}
    assert {len(news.statements) for news in items} == {4}
    assert all(news.task for news in items)


def test_most_questions_of_each_shipped_item_need_a_step_beyond_the_news() -> None:
    for news in load_news():
        assert sum(q.kind in ("apply", "combine", "exclude") for q in news.questions) >= 3, news.id


def test_shipped_statements_differ_little_in_length() -> None:
    for pair in (pair for news in load_news() for pair in news.statements):
        true, false = len(pair.true), len(pair.false)
        assert max(true, false) <= 1.15 * min(true, false), pair.id


def test_shipped_questions_put_the_right_option_at_each_position_equally_often() -> None:
    for domain in {news.domain for news in load_news()}:
        positions = Counter(q.answer for news in load_news() if news.domain == domain for q in news.questions)
        assert len(set(positions.values())) == 1, domain
        assert set(positions) == {0, 1, 2, 3}, domain


def test_shipped_options_have_similar_lengths() -> None:
    for q in (q for news in load_news() for q in news.questions):
        lengths = [len(option) for option in q.options]
        assert max(lengths) <= 1.35 * min(lengths), q


@pytest.mark.parametrize("extreme", [min, max])
def test_shipped_answers_cannot_be_guessed_from_the_length_of_the_options(extreme: Callable[[list[int]], int]) -> None:
    questions = [q for news in load_news() for q in news.questions]
    gain = 0.0
    for q in questions:
        lengths = [len(option) for option in q.options]
        right = lengths[q.answer]
        gain += (right == extreme(lengths)) / lengths.count(right)  # ties: one of the equally long options at random
    assert 0.18 < gain / len(questions) < 0.32


def test_shipped_questions_name_what_they_ask_about() -> None:
    items = load_news()
    in_texts = Counter(word for news in items for word in set(re.findall(r"\w{3,}", news.text.casefold())))
    for news in items:
        own = {word for word in re.findall(r"\w{3,}", news.text.casefold()) if in_texts[word] == 1}
        for q in news.questions:
            assert own & set(re.findall(r"\w{3,}", q.text.casefold())), q.text
            assert "according to" not in q.text.casefold()


def draw_text(alphabet: str = 'abc XYZ é\u2028\n"\\') -> st.SearchStrategy[str]:
    return st.text(alphabet=alphabet, min_size=1, max_size=12).filter(str.strip)


def fold(text: str) -> str:
    return " ".join(text.casefold().split())


@st.composite
def draw_items(draw: st.DrawFn) -> list[NewsItem]:
    ids = draw(
        st.lists(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,9}", fullmatch=True), min_size=1, max_size=3, unique=True)
    )
    return [
        NewsItem(
            id=name, domain=draw(st.sampled_from(DOMAINS)), text=draw(draw_text()), questions=draw(draw_questions(name))
        )
        for name in ids
    ]


@st.composite
def draw_questions(draw: st.DrawFn, name: str) -> tuple[Question, ...]:
    texts = draw(st.lists(draw_text(), min_size=1, max_size=3, unique_by=fold))
    choices = [tuple(draw(st.lists(draw_text(), min_size=2, max_size=4, unique_by=fold))) for _ in texts]
    return tuple(
        Question(id=f"{name}/q{n}", text=text, options=options, answer=draw(st.integers(0, len(options) - 1)))
        for n, (text, options) in enumerate(zip(texts, choices, strict=True), 1)
    )


def write_line(news: NewsItem) -> str:
    questions = [{"text": q.text, "options": q.options, "answer": q.options[q.answer]} for q in news.questions]
    record = {"id": news.id, "domain": news.domain, "text": news.text, "questions": questions}
    return json.dumps(record, ensure_ascii=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw_items())
def test_valid_items_load_as_they_were_written(tmp_path: Path, items: list[NewsItem]) -> None:
    path = write(tmp_path / "my.jsonl", *map(write_line, items))
    assert load_news(path) == items


# ---- sizes -----------------------------------------------------------------------------------------------------------


def test_lines_longer_than_the_limit_are_refused_with_their_size(tmp_path: Path) -> None:
    long, longer = item(text="x" * 1_000_000), "y" * 2_500_000
    path = write(tmp_path / "my.jsonl", item(), long, item(id="b"), longer, item(id="c"))
    size = len(json.dumps(long)) + 1
    assert read_faults(path) == [
        f"{path}:2: the line has {size} bytes; shorten it to 1000000",
        f"{path}:4: the line has 2500001 bytes; shorten it to 1000000",
    ]


def test_a_line_as_long_as_the_limit_is_read(tmp_path: Path) -> None:
    record = item(text="x" * (1_000_000 - len(json.dumps(item(text="")))))
    assert len(json.dumps(record)) == 1_000_000
    assert len(load_news(write(tmp_path / "my.jsonl", record, item(id="b")))) == 2


def test_a_huge_line_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "my.jsonl"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    tracemalloc.start()
    faults = read_faults(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert faults == [f"{path}:1: the line has 200000000 bytes; shorten it to 1000000"]
    assert most < 10_000_000


def test_a_huge_file_is_refused_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format, "MAX_FILE_BYTES", 1000)
    path = write(tmp_path / "my.jsonl", *(item(id=f"a-{n}") for n in range(20)))
    [fault] = read_faults(path)
    number = 1000 // (len(json.dumps(item(id="a-1"))) + 1) + 1
    assert fault == f"{path}:{number}: the file has {path.stat().st_size} bytes; at most 1000 are read: split it"


def test_a_device_without_end_is_refused() -> None:
    assert "/dev/zero:1: the line has 257000001 bytes" in read_faults(Path("/dev/zero"))[0]
