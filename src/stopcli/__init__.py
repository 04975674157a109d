"""Label, search, embed and adapt your own videos, locally, with CLIP and STOP prompts.

``stopcli.load("mini")`` returns a `Model`; nothing heavy is imported before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stopcli.api import Embeddings, Model, Results, load

__version__ = "0.2.0"
__all__ = ["Embeddings", "Model", "Results", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from stopcli import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
