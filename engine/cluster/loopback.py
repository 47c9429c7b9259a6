"""A Ray of this machine that is closed to everybody else: loopback sockets, a private folder, a token of its own.

Ray takes jobs from whoever reaches one of its ports, unless it asks for a token. What Ray reads when it is imported is
set by `engine` itself.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import PRIVATE_FOLDER, STARTS_OWN_RAY, TOKEN_FILE, UserError

ADDRESS = "127.0.0.1"
TOKEN = secrets.token_hex(32)  # one per process: Ray reads it once
GLOO = {"GLOO_SOCKET_IFNAME": "lo"}  # for workers: where torch's processes on CPUs listen


@contextmanager
def closed() -> Iterator[Path]:
    """Gives the folder for Ray's files. Meanwhile there is a token, which only this user can read."""
    if not STARTS_OWN_RAY:
        raise RuntimeError("ray was imported before engine, or RAY_ADDRESS was unset later: its Ray would be open")
    folder, token = private_folder(), Path(TOKEN_FILE)
    token.unlink(missing_ok=True)
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(TOKEN)
    try:
        yield folder / "ray"
    finally:
        token.unlink(missing_ok=True)


def private_folder() -> Path:
    """A folder that only this user can enter. Raises UserError if there is another one of its name."""
    folder = Path(PRIVATE_FOLDER)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise UserError(f"{folder}: not a folder that only you can enter; remove it, or set TMPDIR to another folder")
    return folder
