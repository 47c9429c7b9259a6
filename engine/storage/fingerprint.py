"""Fingerprints: SHA-256 over strict canonical JSON, and in which fields two identities differ."""

import hashlib
import json
from typing import Any

Identity = dict[str, Any]  # plain data: all that affects a result


def canonical(value: Any) -> str:
    """Strict canonical JSON: sorted keys, no NaN. Raises TypeError on anything that is not plain data."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def fingerprint(identity: Any) -> str:
    """SHA-256 over the canonical JSON of an identity, in hex."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()


def differences(old: Identity, new: Identity, path: str = "") -> list[str]:
    """The fields in which two identities differ, one line per field: `training.learning_rate: 0.001 → 0.0002`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b, name = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {_shorten(a)} → {_shorten(b)}")
    return lines


def _shorten(value: Any) -> str:
    """A value for one line of an error."""
    text = canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
