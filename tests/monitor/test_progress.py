"""What workers report: sums, to the board of the phase that runs."""

from typing import Any

import pytest

from engine.monitor import progress


class Board:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.add, self.told = self, []  # as the handle of an actor: board.add.remote(…)

    def remote(self, **changes: int) -> None:
        self.told.append(changes)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Any:
    board = Board()
    monkeypatch.setattr(progress, "find_board", lambda: board)
    monkeypatch.setattr(progress, "next_send", 0.0)
    return board


def test_tokens_are_sent_as_sums_and_with_whatever_is_finished(board: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    for _ in range(5):
        progress.report(tokens=3)
    assert board.told == [{"tokens": 3}]
    progress.report(done=1, running=-1)
    assert board.told[1:] == [{"tokens": 12, "done": 1, "running": -1}]
    progress.report(tokens=7)
    monkeypatch.setattr("time.monotonic", lambda: 101.5)
    progress.report(tokens=1)
    assert board.told[2:] == [{"tokens": 8}]
