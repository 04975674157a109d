"""What ``config.json`` may say: names, types and ranges, checked before anything is built or fetched.

Model folders are made by others. A number that would fill the memory, a name that leads out of the folder
or to another repository, a setting that open_clip would act on by itself: none of them gets past here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

MOST_PATCHES = 64  # a side of a frame
MAX_FRAMES = 64  # a clip: as many as --frames takes

Count = Annotated[int, Field(ge=1, le=128)]  # layers, heads
Side = Annotated[int, Field(ge=8, le=2048)]
Width = Annotated[int, Field(ge=8, le=8192)]


def _text(value: str) -> str:
    value.encode()  # no lone surrogates; a UnicodeEncodeError is a ValueError
    return value


def _file_name(value: str) -> str:
    if value.startswith("file:"):
        name = value.removeprefix("file:")
        if not name or name.startswith(".") or set(name) & set("/\\:\0"):
            raise ValueError("must name a file of this folder")
        if not name.endswith(".safetensors"):
            way = "convert them with safetensors.torch.save_file"
            raise ValueError(f"pickled weights are not read, they can run code; {way}")
    return value


def _repository(value: str) -> str:
    if ".." in value or "--" in value:
        raise ValueError("must name a repository")
    return value


def _place_for_label(value: str) -> str:
    if "{}" not in value:
        raise ValueError("must be a text with {} where the label goes")
    return value


Repository = Annotated[
    str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$", max_length=200), AfterValidator(_repository)
]
Text = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Tower(_Strict):
    layers: Count = 12
    mlp_ratio: Annotated[float, Field(gt=0, le=16)] = 4.0
    ls_init_value: float | None = None
    final_ln_after_pool: bool = False
    output_tokens: bool = False


class Vision(_Tower):
    """The vision tower, in open_clip's words."""

    width: Width = 768
    head_width: Annotated[int, Field(ge=4, le=512)] = 64
    patch_size: Annotated[int, Field(ge=1, le=256)] | None = 16
    layers: Count | Annotated[list[Count], Field(min_length=4, max_length=4)] = 12  # type: ignore[assignment]
    image_size: Side | Annotated[list[Side], Field(min_length=2, max_length=2)] = 224
    patch_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attentional_pool: bool = False
    attn_pooler_queries: Annotated[int, Field(ge=1, le=4096)] = 256
    attn_pooler_heads: Count = 8
    no_ln_pre: bool = False
    pos_embed_type: Literal["learnable", "sin_cos_2d"] = "learnable"
    pool_type: Literal["tok", "avg"] = "tok"
    timm_model_name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")] | None = None  # never an address
    timm_model_pretrained: bool = False  # and nothing is fetched for it
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"
    timm_proj_bias: bool = False
    timm_drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    timm_drop_path: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _few_patches(self) -> Vision:
        sides = (self.image_size,) if isinstance(self.image_size, int) else self.image_size
        patch = self.patch_size or 16
        if self.timm_model_name is None and not patch <= min(sides) <= max(sides) <= MOST_PATCHES * patch:
            raise ValueError(f"must have one to {MOST_PATCHES} patches a side")
        return self


class Words(_Tower):
    """The text tower, in open_clip's words."""

    context_length: Annotated[int, Field(ge=2, le=4096)] = 77
    vocab_size: Annotated[int, Field(ge=2, le=2_000_000)] = 49408
    width: Width = 512
    heads: Count = 8
    embed_cls: bool = False
    pad_id: int = 0
    eos_id: int = 2
    no_causal_mask: bool = False
    pool_type: Literal["first", "last", "argmax", "eos"] = "argmax"
    proj_bias: bool = False
    proj_type: str = "linear"
    hf_tokenizer_name: Repository | None = None
    tokenizer_kwargs: dict[str, str | bool] = {}
    hf_model_name: Repository | None = None
    hf_model_pretrained: bool = False  # nothing is fetched for it
    hf_proj_type: str | None = None
    hf_pooler_type: str | None = None
    norm_kwargs: dict[str, float] = {}
    act_kwargs: dict[Literal["approximate"], Literal["tanh", "none"]] = {}
    use_pad_mask: bool = False
    correct_cls_mask: bool = False


class Captions(_Tower):
    """CoCa's text decoder, which is not used."""

    context_length: Annotated[int, Field(ge=2, le=4096)] = 77
    vocab_size: Annotated[int, Field(ge=2, le=2_000_000)] = 49408
    width: Width = 512
    heads: Count = 8
    dim_head: Annotated[int, Field(ge=4, le=512)] = 64
    n_queries: Annotated[int, Field(ge=1, le=4096)] = 256
    attn_pooler_heads: Count = 8
    latent_dim: Width = 512


class Towers(_Strict):
    """A CLIP that open_clip does not list by name."""

    embed_dim: Width
    vision_cfg: Vision
    text_cfg: Words
    quick_gelu: bool = False
    custom_text: bool = False
    init_logit_scale: float | None = None
    init_logit_bias: float | None = None
    multimodal_cfg: Captions | None = None


class Frames(BaseModel):
    """What is done to frames; `stopcli.model.preprocess` has the words, and open_clip's for them."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    mean: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] | None = None
    interpolation: str | None = None
    fit: str | None = None
    resize_mode: str | None = None


class OwnFrames(Frames):
    """The same, in stopcli's own file."""

    model_config = ConfigDict(extra="forbid")


class Backbone(_Strict):
    """Which CLIP."""

    architecture: Annotated[str, Field(pattern=r"^[\w.+/-]{1,200}$")]
    weights: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_file_name)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    config: Towers | None = None
    preprocess: OwnFrames | None = None


class Sampling(_Strict):
    """Which frames."""

    frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)]
    times: Literal["exact", "keyframes"] = "exact"


class Head(_Strict):
    """How the labels' own vectors were learnt from clips."""

    share: Annotated[float, Field(gt=0, le=1)]
    ridge: Annotated[float, Field(gt=0)]


class Training(BaseModel):
    """How a model was made."""

    settings: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


class Metadata(BaseModel):
    """What a model says of itself, and is kept as it is."""

    license: Annotated[str, Field(max_length=200)] | None = None
    description: Annotated[str, Field(max_length=10_000)] | None = None
    training: Training | None = None
    metrics: dict[str, dict[str, Any]] | None = None


class ConfigFile(Metadata):
    """All of ``config.json`` but ``stop``, which is a StopConfig; what is not known is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    format: int
    backbone: Backbone
    stop: dict[str, Any] | None = None
    sampling: Sampling
    labels: Annotated[list[Text], Field(min_length=1, max_length=1_000_000)] | None = None
    template: Annotated[Text, AfterValidator(_place_for_label)] | None = None
    head: Head | None = None


class OpenClipFile(BaseModel):
    """``open_clip_config.json`` of an open_clip repository on the Hub."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model_cfg: Towers
    preprocess_cfg: Frames = Frames()


def first_fault(error: ValidationError) -> str:
    """Say what is wrong first, and where, in a line."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith(("constrained", "list[")))
    found = repr(fault["input"])
    found = found if len(found) <= 60 else f"{found[:60]}…"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "must")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "missing":
        return f'"{where}" is missing{more}'
    if fault["type"] == "extra_forbidden":
        return f'"{where}" is no setting that stopcli knows{more}'
    return f'"{where}" {message}, got {found}{more}'
