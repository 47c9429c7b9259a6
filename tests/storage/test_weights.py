"""The folder of a trial's weights holds what was written last, and nothing else."""

from pathlib import Path

import pytest

from engine.storage.digests import digest_files, find_damage
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Trial

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="naive")


def make(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("kind", ["folder", "object store"])
def test_weights_that_are_written_again_replace_all_that_was_there(kind: str, tmp_path: Path) -> None:
    """A file that is left would be taken for damage, and the trial trained again for ever."""
    ledger = Ledger(Store(str(tmp_path / "study") if kind == "folder" else f"memory://{tmp_path.name}/study"))
    first, second = make(tmp_path / "1", weights="a", planted="b"), make(tmp_path / "2", weights="c")
    for folder in (first, second):
        ledger.put_weights(TRIAL, str(folder))
    found = Path(ledger.weights(TRIAL, str(tmp_path / "scratch")))
    assert find_damage(found, digest_files(second)) is None


def test_damage_is_named_with_its_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "1", a="1", b="2")
    written = digest_files(folder)
    assert find_damage(folder, written) is None
    (folder / "b").write_text("3")
    assert str(find_damage(folder, written)).startswith(f"{folder / 'b'}: damaged (SHA-256 is ")
    (folder / "b").unlink()
    assert find_damage(folder, written) == f"{folder / 'b'}: missing"
    make(folder / "c", d="4")
    (folder / "b").write_text("2")
    assert find_damage(folder, written) == f"{folder / 'c/d'}: nothing wrote this file"
    assert find_damage(tmp_path / "2", written) == f"{tmp_path / '2'}: missing"
