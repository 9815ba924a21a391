"""Weights published by the Hi-TRS authors, under their parameter names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .authors_names import LEVELS, from_authors, to_authors
from .config import HiTRSConfig
from .encoder import HiTRS
from .heads import Recognizer
from .pretext import Pretraining
from .skeleton import KINECT20, NTU25, SkeletonLayout

_PRETEXT_HEADS = ("pose_head", "clip_head", "video_head", "contrast_head")


def load_authors_checkpoint(
    source: str | os.PathLike[str] | Mapping[str, Any],
    heads: int = 8,
    stride: int = 7,
    dilate: int = 2,
    layout: str | SkeletonLayout | None = None,
) -> Pretraining | Recognizer:
    """The authors' weights as a `Recognizer`, if they hold a classifier, else as a `Pretraining`.

    Sizes are read off the tensors, except those that shapes do not tell, which are arguments with the authors'
    defaults. The weights keep their dtype, on the CPU. Pretext heads that the file lacks start at random, as do those
    a recognition model has no use for.

    Args:
        source: a file that `torch.save` wrote (read with `weights_only=True`) or a state dict; `DataParallel`'s
            "module." prefix is taken off.
        heads: of the attention.
        stride: frames from one clip to the next.
        dilate: frames from one frame of a clip to the next.
        layout: without it 25 joints are `ntu25`, 20 are `kinect20`, others have no bones.

    Raises ValueError if a tensor is missing or has a name that the model does not know.
    """
    try:
        renamed = from_authors(_authors_state(source))
        config = _config_of(renamed, heads, stride, dilate, layout)
    except KeyError as absent:
        raise ValueError(f"not the authors' checkpoint: the tensor {absent} is missing") from None
    encoder = HiTRS(config)
    model: Pretraining | Recognizer
    if "classifier.weight" in renamed:
        model = Recognizer(encoder, len(renamed["classifier.weight"]), bodies=2)
        renamed = {k: t for k, t in renamed.items() if not k.startswith(_PRETEXT_HEADS)}
    else:
        model = Pretraining(encoder)
    missing, unexpected = model.to(renamed["encoder.clip_cls"].dtype).load_state_dict(renamed, strict=False)
    missing = [name for name in missing if not name.startswith(_PRETEXT_HEADS)]
    if missing or unexpected:
        raise ValueError(f"not the authors' checkpoint: missing {missing[:5]}, unexpected {unexpected[:5]}")
    return model


def save_authors_checkpoint(
    model: Pretraining | Recognizer,
    path: str | os.PathLike[str],
    prefix: str = "module.",
    pretext_from: str | os.PathLike[str] | Mapping[str, Any] | None = None,
) -> None:
    """Writes the weights of `model` to `path` under the authors' names, shapes and order of q, k and v, for their code.

    Args:
        model: its weights are written as they are, bit for bit.
        path: the file; one that exists is replaced.
        prefix: stands before every name. The authors' scripts wrap the model in `DataParallel` before they load, and
            pass over names without "module."; "" is for a bare model.
        pretext_from: the authors' checkpoint (a file or a state dict) from which a recogniser's pretext heads are
            taken. Their recognition model has these heads and does not use them; ours has none, so that without it
            zeros are written.

    Raises ValueError where the authors' code would compute something else from these weights.
    """
    config = model.encoder.config
    if not (config.self_visible and config.input_norm):
        raise ValueError(
            "the authors' code lets a joint see itself and normalises the joint embedding; this model has "
            f"self_visible={config.self_visible} and input_norm={config.input_norm}, which it cannot compute"
        )
    state = to_authors(model.state_dict())
    if isinstance(model, Recognizer):
        if model.bodies != 2:
            raise ValueError(f"the authors' code divides by two bodies; this model has bodies={model.bodies}")
        state |= _pretext_heads(model.encoder, pretext_from)
    # Clones, because thirds of a packed weight would take the whole of it into the file.
    torch.save({prefix + name: tensor.detach().cpu().clone() for name, tensor in state.items()}, path)


def _pretext_heads(encoder: HiTRS, source: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, Tensor]:
    with torch.device("meta"):  # for names and shapes alone
        heads = {k: t for k, t in Pretraining(encoder).state_dict().items() if k.startswith(_PRETEXT_HEADS)}
    zeros = {name: torch.zeros(t.shape, dtype=encoder.clip_cls.dtype) for name, t in to_authors(heads).items()}
    if source is None:
        return zeros
    given = _authors_state(source)
    for name, zero in zeros.items():
        if name not in given or given[name].shape != zero.shape:
            raise ValueError(f"pretext_from has no {name!r} of shape {tuple(zero.shape)}, which this encoder needs")
    return {name: given[name] for name in zeros}


def _authors_state(source: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Tensor]:
    loaded = source if isinstance(source, Mapping) else torch.load(source, map_location="cpu", weights_only=True)
    # Training scripts wrap the weights in a larger dictionary.
    for key in ("state_dict", "model", "net"):
        if isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    state = {k.removeprefix("module."): torch.as_tensor(t) for k, t in loaded.items()}
    if "clip_fuse_token" not in state:
        raise ValueError(f"not the authors' checkpoint: it has no 'clip_fuse_token', but {sorted(state)[:5]}")
    return state


def _config_of(
    state: Mapping[str, Tensor], heads: int, stride: int, dilate: int, layout: str | SkeletonLayout | None
) -> HiTRSConfig:
    window, joints, _ = state["encoder.clip_position"].shape
    inner = len(state["encoder.frame_layers.0.qkv.weight"]) // 3
    if inner % heads:
        raise ValueError(f"the attention is {inner} wide, which {heads} heads do not divide; pass heads=")
    if layout is None:
        known = {l.joints: l for l in (NTU25, KINECT20)}
        layout = known.get(joints) or SkeletonLayout.from_parents(f"joints{joints}", [-1] * joints)
    levels = tuple(LEVELS.values())
    widths = [len(state[f"encoder.{level}_layers.0.attention_norm.weight"]) for level in levels]
    hidden = [len(state[f"encoder.{level}_layers.0.ffn_in.bias"]) for level in levels]
    return HiTRSConfig.authors(
        layout,
        channels=state["encoder.joint_embedding.0.weight"].shape[1],
        window=window,
        stride=stride,
        dilate=dilate,
        widths=(widths[0], widths[1], widths[2]),
        ffn=(hidden[0], hidden[1], hidden[2]),
        layers=1 + max(int(k.split(".")[2]) for k in state if k.startswith("encoder.frame_layers.")),
        heads=heads,
        head_dim=inner // heads,
        max_clips=len(state["encoder.video_position"]),
        input_norm="encoder.joint_embedding.2.weight" in state,
    )
