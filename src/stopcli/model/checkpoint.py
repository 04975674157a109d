"""Loading and saving a model's weights, strict both ways.

A model folder holds ``config.json`` (see `stopcli.model.config`) and ``model.safetensors``, the
prompt modules only. Pickled files are not read: they can run code.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from stopcli.errors import CheckpointError
from stopcli.fileio import make_folder, replacing, to_json, write_text
from stopcli.model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig
from stopcli.model.towers.architectures import is_standard, read_architecture

FLOATS = {"F64", "F32", "F16", "BF16"}


def build_backbone(
    architecture: str, config: dict[str, Any] | None, preprocess: dict[str, Any], *, empty: bool = False
) -> Any:
    """Build an open_clip model with random weights, or with none; CLIP's own kind without importing it.

    Args:
        architecture: an open_clip name.
        config: open_clip's model config, for architectures that open_clip does not list.
        preprocess: ``mean`` and ``std`` where they are not CLIP's own.
        empty: take no memory and draw nothing: for weights that are loaded at once.

    Raises:
        CheckpointError: open_clip knows no such architecture, or the tower does not suit STOP.
    """
    import torch

    from stopcli.model.clip import Backbone

    settings = config if config is not None else read_architecture(architecture)
    try:
        with torch.device("meta" if empty else "cpu"):
            if empty and settings is not None and is_standard(settings):
                from stopcli.model.towers.standard import StandardCLIP

                return Backbone(StandardCLIP(settings), architecture, preprocess)
            return Backbone(_open_clip(architecture, settings), architecture, preprocess)
    except CheckpointError:
        raise
    except Exception as error:  # whatever it trips over: open_clip checks little
        raise CheckpointError(
            f"{architecture}: not a backbone that can be built ({error or type(error).__name__})"
        ) from error


def _open_clip(architecture: str, settings: dict[str, Any] | None) -> Any:
    import open_clip

    if settings is None:
        close = difflib.get_close_matches(architecture, open_clip.list_models(), 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise CheckpointError(f"open_clip knows no architecture {architecture!r}{hint}")
    settings = dict(settings)
    custom_text = settings.pop("custom_text", False)
    if "multimodal_cfg" in settings or "hf_model_name" in settings.get("text_cfg", {}):
        raise CheckpointError(f"{architecture}: only plain CLIP models are supported")
    return (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**settings)


def load_backbone_weights(backbone: Any, file: Path, *, text_only: bool = False) -> None:
    """Load open_clip's state dict into a backbone, all of it and nothing else.

    ``text_only`` leaves the vision tower empty, and its weights on the disk. CheckpointError: the file
    is damaged, or of another architecture.
    """
    skip = ("visual.",) if text_only else ()
    _load_strict(backbone.clip, file, f"backbone {backbone.architecture}", skip)
    backbone.fill_buffers()


def load_prompts(model: Any, folder: Path) -> None:
    """Load ``model.safetensors`` into the prompt modules, all of it and nothing else.

    CheckpointError: it is absent, damaged, or of another configuration.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder}: {CONFIG_FILE} promises prompts, but there is no {WEIGHTS_FILE}")
    _load_strict(model.prompts, file, "the prompts of its config.json")


def _load_strict(module: Any, file: Path, what: str, skip: tuple[str, ...] = ()) -> None:
    """Load a state dict, less the names that begin with ``skip``."""
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        way = "convert it with safetensors.torch.save_file"
        raise CheckpointError(f"{file}: pickled weights are not read, they can run code; {way}")
    expected = {name: value for name, value in module.state_dict().items() if not name.startswith(skip)}
    try:
        with safe_open(file, "pt") as tensors:
            names = {n for n in tensors.keys() if not n.startswith(skip)}  # noqa: SIM118
            faults = [f"it lacks {n}" for n in sorted(expected.keys() - names)]
            faults += [f"it holds {n}, which does not belong there" for n in sorted(names - expected.keys())]
            faults += [
                f"{name} is of {kind}, no floating-point numbers"
                for name in sorted(names & expected.keys())
                if (kind := tensors.get_slice(name).get_dtype()) not in FLOATS
            ]
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in names & expected.keys()}
            faults += [
                f"{name} is {shape}, expected {tuple(expected[name].shape)}"
                for name, shape in shapes.items()
                if shape != tuple(expected[name].shape)
            ]
            state = {} if faults else {name: tensors.get_tensor(name) for name in names}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{file}: damaged ({error}); fetch or copy it again") from error
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckpointError(f"{file}: not weights for {what}: {faults[0]}{more}")
    # taken over, not copied; in the module's own dtype, whatever the file's
    weights = {name: state[name].to(value.dtype) for name, value in expected.items()}
    module.load_state_dict(weights, assign=True, strict=not skip)


def save(folder: Path, config: ModelConfig, model: Any | None) -> None:
    """Write a model folder: its config, and the prompts of a `Stop`; each file whole or not at all.

    CannotWrite: the operating system refused.
    """
    from safetensors.torch import save as to_bytes

    make_folder(folder)
    if model is not None and config.stop is not None:
        state = {k: v.detach().cpu().contiguous() for k, v in model.prompts.state_dict().items()}
        with replacing(folder / WEIGHTS_FILE) as part:
            part.write_bytes(to_bytes(state, metadata={"format": "pt"}))
    write_text(folder / CONFIG_FILE, to_json(config.to_dict(), 2) + "\n")
