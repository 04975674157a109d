"""Every setting of stopcli: environment variables first, then ``config.toml``.

| variable | meaning |
|---|---|
| ``STOPCLI_MODEL`` | the model to use where none is named; ``model`` in ``config.toml`` |
| ``STOPCLI_HOME`` | one folder for the index and all caches, instead of the platform's own places |
| ``STOPCLI_FRAMES_GB`` | how much decoded frames may take on the disk while fine-tuning |

``config.toml`` lies in the platform's configuration folder (``stop doctor`` shows it)::

    model = "hf:someone/their-model"
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import platformdirs

from stopcli.errors import UsageError

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

DEFAULT_MODEL = "vit-b-32"
MOST_SEED = 2**32 - 1


def config_file() -> Path:
    """Return where the settings are read from."""
    return Path(platformdirs.user_config_dir("stopcli", appauthor=False)) / "config.toml"


def cache_folder() -> Path:
    """Return where stopcli keeps what it can make again."""
    return Path(os.environ.get("STOPCLI_HOME") or platformdirs.user_cache_dir("stopcli", appauthor=False))


def data_folder() -> Path:
    """Return where stopcli keeps what took long to make: the index."""
    return Path(os.environ.get("STOPCLI_HOME") or platformdirs.user_data_dir("stopcli", appauthor=False))


def frames_limit() -> int | None:
    """Return how many bytes of decoded frames may be kept; None for the default; raises UsageError."""
    value = os.environ.get("STOPCLI_FRAMES_GB")
    if not value:
        return None
    try:
        gigabytes = float(value)
    except ValueError:
        gigabytes = -1.0
    if not 0 < gigabytes < 1e9:
        raise UsageError(f"STOPCLI_FRAMES_GB must be a number of gigabytes above 0, got {value!r}")
    return int(gigabytes * 2**30)


def default_model() -> str:
    """Return the model to use where none is named; raises UsageError."""
    named = os.environ.get("STOPCLI_MODEL")
    if named:
        return named
    path = config_file()
    if not path.is_file():
        return DEFAULT_MODEL
    import tomllib

    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as TOML ({error})") from error
    model = settings.get("model", DEFAULT_MODEL)
    if not isinstance(model, str):
        raise UsageError(f'{path}: "model" must be a text, got {model!r}')
    return model
