"""Loading and saving a model's weights, strict both ways.

A model folder holds ``config.json`` (see `stopcli.model.config`) and ``model.safetensors``, the
prompt modules only. Pickled files are not read: they can run code.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stopcli.errors import CheckpointError
from stopcli.fileio import make_folder, replacing, to_json, write_text
from stopcli.model.config import CONFIG_FILE, WEIGHTS_FILE, ModelConfig, StopConfig
from stopcli.model.preprocess import Preprocess, preprocess_of
from stopcli.model.towers.architectures import list_architectures, read_architecture, require_transformers

FLOATS = {"F64", "F32", "F16", "BF16"}
PARTS = {  # whose parameters are whose
    "spatial": ("temporal_dynamics.", "spatial_prompter.", "patch_offsets"),
    "temporal": ("frame_variation.", "temporal_prompter.", "gap_tokens"),
}
NUMBERS = {"logit_scale", "logit_bias"}  # in old files of shape (1,)


def build_backbone(
    architecture: str,
    config: dict[str, Any] | None,
    preprocess: Preprocess | None = None,
    *,
    words: Path | None = None,
    empty: bool = False,
) -> Any:
    """Build an open_clip model with random weights, or with none; CLIP's own kind without importing it.

    Args:
        architecture: an open_clip name.
        config: open_clip's model config, for architectures that open_clip does not list.
        preprocess: how its frames are made; None is CLIP's way.
        words: the folder of the text tower's settings, where they come from another library.
        empty: take no memory and draw nothing: for weights that are loaded at once.

    Raises:
        CheckpointError: open_clip knows no such architecture, or cannot build it.
    """
    from stopcli.model.clip import Backbone
    from stopcli.model.towers.build import build_clip, tower_of

    settings = config if config is not None else read_architecture(architecture)
    if settings is None:
        close = difflib.get_close_matches(architecture, list_architectures(), 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise CheckpointError(f"open_clip knows no architecture {architecture!r}{hint}")
    if settings["text_cfg"].get("hf_model_name"):
        require_transformers(architecture)
    preprocess = preprocess or preprocess_of(architecture, settings, {})
    try:
        clip = build_clip(settings, words, empty=empty)
        tower = tower_of(clip)
        return Backbone(clip, architecture, int(settings["embed_dim"]), preprocess, tower)
    except Exception as error:  # whatever it trips over: open_clip checks little
        raise CheckpointError(
            f"{architecture}: not a backbone that can be built ({error or type(error).__name__})"
        ) from error


def load_backbone_weights(backbone: Any, file: Path, *, text_only: bool = False) -> None:
    """Load open_clip's state dict into a backbone, all of it and nothing else.

    ``text_only`` leaves the vision tower empty, and its weights on the disk. CheckpointError: the file
    is damaged, or of another architecture.
    """
    skip = ("visual.",) if text_only else ()
    _load_strict(backbone.clip, file, f"backbone {backbone.architecture}", skip, _as_open_clip)


def _as_open_clip(names: set[str], expected: set[str]) -> dict[str, str]:
    """Return the names of a file's weights by their names in the model, as open_clip loads older files."""
    found = {name: name for name in names if not name.startswith("text_decoder.")}
    own = "text.positional_embedding"
    if "positional_embedding" in names and own in expected - names:
        words = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
        found = {f"text.{n}" if n.startswith(words) else n: n for n in found}
    ids = "text.transformer.embeddings.position_ids"
    if ids not in expected:
        found.pop(ids, None)
    return found


def load_prompts(model: Any, folder: Path) -> None:
    """Load ``model.safetensors`` into the prompt modules, all of it and nothing else.

    CheckpointError: it is absent, damaged, or of another configuration.
    """
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder}: {CONFIG_FILE} promises prompts, but there is no {WEIGHTS_FILE}")
    _load_strict(model.prompts, file, "the prompts of its config.json")


def keep_prompts(model: Any, before: StopConfig, folder: Path) -> set[str]:
    """Load those prompts of a folder, made with the configuration ``before``, that fit this model.

    Returns the kinds that were kept: spatial, temporal. CheckpointError as `load_prompts`.
    """
    from stopcli.model.stop import Stop

    trained = Stop(model.backbone, before).to(next(model.prompts.parameters()).device)
    load_prompts(trained, folder)
    own = model.prompts.state_dict()
    kept = {n: v for n, v in trained.prompts.state_dict().items() if n in own and v.shape == own[n].shape}
    model.prompts.load_state_dict(kept, strict=False)
    return {kind for kind, parts in PARTS.items() if any(part in name for part in parts for name in kept)}


def _load_strict(
    module: Any,
    file: Path,
    what: str,
    skip: tuple[str, ...] = (),
    rename: Callable[[set[str], set[str]], dict[str, str]] | None = None,
) -> None:
    """Load a state dict, less the names that begin with ``skip``; ``rename`` finds them in the file."""
    import torch
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        way = "convert it with safetensors.torch.save_file"
        raise CheckpointError(f"{file}: pickled weights are not read, they can run code; {way}")
    expected = {name: value for name, value in module.state_dict().items() if not name.startswith(skip)}
    state: dict[str, Any] = {}
    try:
        with safe_open(file, "pt") as tensors:
            names = {n for n in tensors.keys() if not n.startswith(skip)}  # noqa: SIM118
            stored = rename(names, set(expected)) if rename else dict(zip(names, names, strict=True))
            slices = {name: tensors.get_slice(stored[name]) for name in expected.keys() & stored.keys()}
            faults = [f"it lacks {name}" for name in sorted(expected.keys() - stored.keys() - {"logit_bias"})]
            faults += [
                f"it holds {stored[name]}, which does not belong there"
                for name in sorted(stored.keys() - expected.keys())
            ]
            faults += [
                f"{name} is of {kind}, no floating-point numbers"
                for name, found in sorted(slices.items())
                if (kind := found.get_dtype()) not in FLOATS and expected[name].is_floating_point()
            ]
            faults += [
                f"{name} is {shape}, expected {tuple(expected[name].shape)}"
                for name, found in slices.items()
                if (shape := tuple(found.get_shape())) != tuple(expected[name].shape)
                and not (name in NUMBERS and math.prod(shape) == 1)
            ]
            state = {} if faults else {name: tensors.get_tensor(stored[name]) for name in slices}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{file}: damaged ({error}); fetch or copy it again") from error
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckpointError(f"{file}: not weights for {what}: {faults[0]}{more}")
    # taken over, not copied; in the module's own dtype, whatever the file's
    weights = {
        name: state[name].to(value.dtype).reshape(value.shape) if name in state else torch.zeros(value.shape)
        for name, value in expected.items()
    }
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
