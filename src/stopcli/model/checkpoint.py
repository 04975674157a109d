"""Loading and saving a model's weights, strict both ways.

A model folder holds ``config.json`` (see `stopcli.model.config`) and ``model.safetensors``, the
prompt modules only. Of pickled files nothing but tensors is loaded: no code in them runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stopcli.errors import CheckpointError
from stopcli.fileio import replacing, write_error, write_text
from stopcli.model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig


def build_backbone(
    architecture: str, config: dict[str, Any] | None, preprocess: dict[str, Any], *, empty: bool = False
) -> Any:
    """Build an open_clip model with random weights, or with none.

    Args:
        architecture: an open_clip name.
        config: open_clip's model config, for architectures that open_clip does not list.
        preprocess: ``mean`` and ``std`` where they are not CLIP's own.
        empty: take no memory and draw nothing: for weights that are loaded at once.

    Raises:
        CheckpointError: open_clip knows no such architecture, or the tower does not suit STOP.
    """
    import open_clip
    import torch

    from stopcli.model.clip import Backbone

    settings = config if config is not None else open_clip.get_model_config(architecture)
    if settings is None:
        import difflib

        close = difflib.get_close_matches(architecture, open_clip.list_models(), 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise CheckpointError(f"open_clip knows no architecture {architecture!r}{hint}")
    settings = dict(settings)
    custom_text = settings.pop("custom_text", False)
    if "multimodal_cfg" in settings or "hf_model_name" in settings.get("text_cfg", {}):
        raise CheckpointError(f"{architecture}: only plain CLIP models are supported")
    try:
        with torch.device("meta" if empty else "cpu"):
            clip = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**settings)
    except (TypeError, KeyError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"{architecture}: not a backbone that can be built ({error})") from error
    return Backbone(clip, architecture, mean=preprocess.get("mean"), std=preprocess.get("std"))


def load_backbone_weights(backbone: Any, file: Path, *, text_only: bool = False) -> None:
    """Load open_clip's state dict into a backbone, all of it and nothing else.

    Args:
        backbone: to be filled.
        file: the state dict.
        text_only: leave the vision tower empty, and its weights on the disk.

    Raises:
        CheckpointError: the file is damaged, or of another architecture.
    """
    skip = "visual." if text_only else None
    _load_strict(backbone.clip, file, f"backbone {backbone.architecture}", skip)
    backbone.fill_buffers()


def load_prompts(model: Any, folder: Path) -> None:
    """Load ``model.safetensors`` into the prompt modules, all of it and nothing else.

    Raises:
        CheckpointError: the file is absent, damaged, or of another configuration.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder}: {CONFIG_FILE} promises prompts, but there is no {WEIGHTS_FILE}")
    _load_strict(model.prompts, file, "the prompts of its config.json")


def _load_strict(module: Any, file: Path, what: str, skip: str | None = None) -> None:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                names = [n for n in tensors.keys() if skip is None or not n.startswith(skip)]  # noqa: SIM118
                state = {name: tensors.get_tensor(name) for name in names}
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{file}: damaged ({error}); fetch or copy it again") from error
    expected = module.state_dict()
    if skip is not None:
        expected, state = ({k: v for k, v in d.items() if not k.startswith(skip)} for d in (expected, state))
    missing = sorted(set(expected) - set(state))
    surplus = sorted(set(state) - set(expected))
    if missing or surplus:
        fault = f"lacks {missing[0]}" if missing else f"holds {surplus[0]}, which does not belong there"
        more = len(missing) + len(surplus) - 1
        raise CheckpointError(
            f"{file}: not weights for {what}: it {fault}" + (f" (and {more} more)" if more else "")
        )
    for name, value in expected.items():
        if state[name].shape != value.shape:
            raise CheckpointError(
                f"{file}: not weights for {what}: {name} is {tuple(state[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )
    # taken over, not copied; in the module's own dtype, whatever the file's
    module.load_state_dict(
        {k: state[k].to(v.dtype) for k, v in expected.items()}, assign=True, strict=skip is None
    )


def save(folder: Path, config: ModelConfig, model: Any | None) -> None:
    """Write a model folder; each file appears whole or not at all.

    Args:
        folder: made if it is not there.
        config: what to write to ``config.json``.
        model: the `Stop` whose prompts are saved; None for plain CLIP.

    Raises:
        CannotWrite: the operating system refused.
    """
    from safetensors.torch import save as to_bytes

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    if model is not None and config.stop is not None:
        state = {k: v.detach().cpu().contiguous() for k, v in model.prompts.state_dict().items()}
        with replacing(folder / WEIGHTS_FILE) as part:
            part.write_bytes(to_bytes(state, metadata={"format": "pt"}))
    write_text(folder / CONFIG_FILE, json.dumps(config.to_dict(), indent=2, ensure_ascii=False) + "\n")
