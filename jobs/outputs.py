"""What all jobs that write a file share; imports nothing of the engine, so that fits need none."""

from pathlib import Path


def check_out(path: str | None) -> None:
    """Raises ValueError before any work if a file could not be written there after it."""
    if path and not Path(path).absolute().parent.is_dir():
        raise ValueError(f"--out {path}: there is no folder {Path(path).absolute().parent}; make it first")
