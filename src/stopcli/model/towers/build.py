"""From open_clip's settings of an architecture to a CLIP, and to the tower in it that STOP can run."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from stopcli.fileio import read_json
from stopcli.model.towers.architectures import is_standard, timm_names
from stopcli.model.towers.timm_vit import TimmEva, TimmViT
from stopcli.model.towers.tower import Tower
from stopcli.model.towers.vit import OpenClipViT

TEXT_TOWERS = ("bert", "m2m_100", "mt5", "roberta", "xlm-roberta")  # those that open_clip reads
MOST_LAYERS, MOST_SIZE, MOST_WORDS = 200, 1 << 20, 1 << 22


def build_clip(settings: dict[str, Any], words: Path | None = None, *, empty: bool = False) -> Any:
    """Build a CLIP with random weights or, ``empty``, with none where that can be.

    Args:
        settings: as in open_clip's JSON files; CLIP's own kind is built without importing it.
        words: the folder of a text tower's settings, where it is one of the transformers library.
        empty: take no memory for parameters: for weights that are loaded at once.

    Raises:
        Exception: of any kind, for settings that fit nothing; open_clip checks little.
    """
    if empty and is_standard(settings):
        from stopcli.model.towers.standard import StandardCLIP

        with no_parameters():
            return StandardCLIP(settings)
    if empty:
        try:
            with no_parameters():
                clip = _open_clip(settings, words)
            if not any(buffer.is_meta for buffer in clip.buffers()):
                return clip
        except RuntimeError as error:  # some stems run a picture to learn their own size
            if "meta" not in str(error) or settings["vision_cfg"].get("timm_model_name") not in timm_names():
                raise
    return _open_clip(settings, words)


def _open_clip(settings: dict[str, Any], words: Path | None) -> Any:
    import open_clip

    settings = copy.deepcopy(settings)
    custom_text = settings.pop("custom_text", False)
    text, captions = settings["text_cfg"], "multimodal_cfg" in settings
    settings["vision_cfg"].pop("timm_model_pretrained", None)  # nothing is fetched here
    for tower in (settings["vision_cfg"], text):
        tower.pop("output_tokens", None)
        tower |= {"output_tokens": True} if captions else {}
    if text.get("hf_model_name"):
        if words is None:
            raise ValueError("the settings of its text tower are not at hand")
        _check_words(words)
        text |= {"hf_model_name": str(words), "hf_model_pretrained": False}
    if captions:
        clip = open_clip.CoCa(**settings)
        del clip.text_decoder  # it writes captions
        return clip
    return (open_clip.CustomTextCLIP if custom_text or "hf_model_name" in text else open_clip.CLIP)(
        **settings
    )


def _check_words(folder: Path) -> None:
    """Make sure that settings of another library's text tower run no code and make no giant; ValueError."""
    settings = read_json(folder / "config.json")
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind not in TEXT_TOWERS:
        raise ValueError(f"its text tower is of the kind {kind!r}; {', '.join(TEXT_TOWERS)} are known")
    if "auto_map" in settings:
        raise ValueError("the settings of its text tower name code of their own")
    for name, value in settings.items():
        most = MOST_LAYERS if "layers" in name else MOST_WORDS if name == "vocab_size" else MOST_SIZE
        if type(value) is int and value > most:
            raise ValueError(f"{name} of its text tower is {value}; {most} is the most")


class _NoRandomNumbers(TorchFunctionMode):
    """Within, nothing is drawn for parameters without memory: torch would load its compiler for that."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        drawn = args[0] if args else (kwargs or {}).get("tensor")
        if getattr(func, "__name__", "") in ("normal_", "uniform_") and getattr(drawn, "is_meta", False):
            return drawn
        return func(*args, **(kwargs or {}))


_register: Any = nn.Module.register_parameter
_emptying: Counter[int] = Counter()  # how deep threads are in `no_parameters`
_changing = threading.Lock()


def _register_empty(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
    _register(self, name, parameter)
    if parameter is not None and _emptying[threading.get_ident()]:
        self._parameters[name] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


@contextmanager
def no_parameters() -> Iterator[None]:
    """Within, modules get parameters that take no memory; buffers are real, for they may be in no file.

    That is so for modules made by this thread; what others make meanwhile is as ever.
    """
    me = threading.get_ident()
    with _changing:
        _emptying[me] += 1
        nn.Module.register_parameter = _register_empty  # type: ignore[assignment, method-assign]
    try:
        with _NoRandomNumbers():
            yield
    finally:
        with _changing:
            _emptying[me] -= 1
            if not _emptying.total():
                _emptying.clear()
                nn.Module.register_parameter = _register  # type: ignore[method-assign]


def tower_of(clip: Any) -> Tower | str:
    """Return the vision tower of a CLIP, to be run block by block, or why it cannot be."""
    visual = clip.visual
    name = type(visual).__name__
    if name in ("VisionTransformer", "Vision"):
        if not isinstance(visual.transformer.resblocks[0].attn, nn.MultiheadAttention):
            return f"its blocks have attention of kind {type(visual.transformer.resblocks[0].attn).__name__}"
        return OpenClipViT(visual)
    name = type(trunk).__name__ if (trunk := getattr(visual, "trunk", None)) is not None else name
    kind = {"VisionTransformer": TimmViT, "Eva": TimmEva}.get(name)
    if kind is None:
        return f"its vision tower is a {name}, which has no ViT blocks"
    return kind(visual)
