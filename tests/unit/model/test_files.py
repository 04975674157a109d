"""Hashes of weights: computed once, and never taken at somebody's word."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from stopcli.model import files
from stopcli.model.files import known_hash


def test_a_hash_is_computed_once_as_long_as_the_file_stays(tmp_path, monkeypatch):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    first = known_hash(weights)
    assert first == hashlib.sha256(b"one").hexdigest()
    monkeypatch.setattr(files, "file_hash", lambda _: "computed again")
    assert known_hash(weights) == first
    os.utime(weights, ns=(1, 1))
    assert known_hash(weights) == "computed again"
    (Path(os.environ["STOPCLI_HOME"]) / "hashes.json").write_text("[broken")
    assert known_hash(weights) == "computed again"


def test_a_file_in_the_place_of_another_has_its_own_hash(tmp_path):
    weights, other = tmp_path / "w", tmp_path / "other"
    weights.write_bytes(b"one")
    other.write_bytes(b"two")
    os.utime(weights, ns=(5, 5))
    os.utime(other, ns=(5, 5))
    known_hash(weights)
    other.replace(weights)  # same size, same time
    assert known_hash(weights) == hashlib.sha256(b"two").hexdigest()
