"""From a model's files to a model: on the CPU, in fp32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stopcli.errors import CheckpointError
from stopcli.model.checkpoint import build_backbone, load_backbone_weights, load_prompts
from stopcli.model.clip import Backbone
from stopcli.model.files import ModelFiles
from stopcli.model.stop import Stop
from stopcli.model.towers.build import no_parameters

TEXT_BATCH = 256


def embed_texts_alone(files: ModelFiles, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts -> (N,E) of unit length, as `load_model` would, with nothing loaded but the text tower."""
    backbone = _empty_backbone(files)
    load_backbone_weights(backbone, files.backbone, text_only=True)
    tokens = tokenizer_of(files)(list(texts))
    vectors = in_batches(Stop(backbone, None).eval().encode_text, tokens)
    if not np.isfinite(vectors).all():
        raise CheckpointError(f"{files.name}: makes vectors that are no numbers; its weights are damaged")
    return vectors


def in_batches(embed: Callable[[Tensor], Tensor], tokens: Tensor) -> NDArray[np.float32]:
    """Embed token ids (N,77 or the tower's own length) -> (N,E), in batches of texts of like length."""
    order = (tokens != 0).sum(1).argsort()  # a batch costs what its longest text does
    with torch.inference_mode():
        vectors = torch.cat([embed(tokens[part]) for part in torch.split(order, TEXT_BATCH)])
    out: NDArray[np.float32] = vectors[order.argsort()].numpy()
    return out


def _empty_backbone(files: ModelFiles) -> Backbone:
    config = files.config
    backbone: Backbone = build_backbone(
        config.architecture, config.backbone_config, files.preprocess, words=files.words, empty=True
    )
    return backbone


def tokenizer_of(files: ModelFiles) -> Callable[[list[str]], Tensor]:
    """Return the backbone's own tokenizer: texts to token ids (N,77 or the tower's own length)."""
    encode = files.tokenizer()

    def tokenize(texts: list[str]) -> Tensor:
        tokens = torch.zeros((len(texts), encode.length), dtype=torch.long)
        for row, token_ids in zip(tokens, map(encode, texts), strict=True):
            row[: len(token_ids)] = torch.tensor(token_ids)
        return tokens

    return tokenize


def load_model(files: ModelFiles) -> Stop:
    """Build a model and load its weights; CheckpointError where the files do not fit together."""
    config = files.config
    backbone = _empty_backbone(files)
    load_backbone_weights(backbone, files.backbone)
    from_file = files.folder is not None and config.stop is not None
    try:
        with no_parameters() if from_file else nullcontext():
            model = Stop(backbone, config.stop, focus=files.focus)
    except ValueError as error:
        raise CheckpointError(f"{files.folder}: its prompts do not fit its backbone: {error}") from error
    if from_file and files.folder is not None:
        load_prompts(model, files.folder)
    return model.eval().requires_grad_(False)
