"""Weights published by the Hi-TRS authors, under their parameter names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .config import HiTRSConfig
from .encoder import HiTRS
from .heads import Recognizer
from .pretext import Pretraining
from .skeleton import KINECT20, NTU25, SkeletonLayout

_LEVELS = {"s": "frame", "c": "clip", "v": "video"}
_IN_LAYER = {
    "self_attn_norm": "attention_norm",
    "slf_attn.fc": "out",
    "pff_norm": "ffn_norm",
    "pos_ffn.w_1": "ffn_in",
    "pos_ffn.w_2": "ffn_out",
}
_OUTSIDE = {
    "s_input_map": "encoder.joint_embedding",
    "c_input_map": "encoder.clip_embedding",
    "v_input_map": "encoder.video_embedding",
    "s_pe.pe": "encoder.joint_position",
    "c_pe.pe": "encoder.clip_position",
    "v_pe.pe": "encoder.video_position",
    "clip_fuse_token": "encoder.clip_cls",
    "video_fuse_token": "encoder.video_cls",
    "s_pose_reg": "pose_head",
    "c_motion_cls": "clip_head",
    "v_motion_cls": "video_head",
    "v_ft_reg": "contrast_head",
    "v_cls": "classifier",
}
_PRETEXT_HEADS = ("pose_head", "clip_head", "video_head", "contrast_head")


def load_authors_checkpoint(
    source: str | os.PathLike[str] | Mapping[str, Any],
    heads: int = 8,
    stride: int = 7,
    dilate: int = 2,
    layout: str | SkeletonLayout | None = None,
) -> Pretraining | Recognizer:
    """The authors' weights as a `Recognizer`, if they hold a classifier, else as a `Pretraining`.

    `source` is a file that `torch.save` wrote (read with `weights_only=True`) or a state dict; `DataParallel`'s
    "module." prefix is taken off. Sizes are read off the tensors, except `heads`, `stride` and `dilate`, which shapes
    do not tell. Without `layout`, 25 joints are `ntu25`, 20 are `kinect20`, others have no bones.
    Pretext heads that the file lacks start at random, as do those a recognition model has no use for.

    Raises ValueError if a tensor is missing or has a name that the model does not know.
    """
    try:
        renamed = _rename(_authors_state(source))
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


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        in_layer = re.fullmatch(r"([scv])_enc\.layer_stack\.(\d+)\.(.+)\.(weight|bias)", name)
        if in_layer:
            level, number, part, kind = in_layer.groups()
            prefix = f"encoder.{_LEVELS[level]}_layers.{number}"
            if part == "slf_attn.w_qs":
                packed = [state[name.replace("w_qs", w)] for w in ("w_qs", "w_ks", "w_vs")]
                out[f"{prefix}.qkv.weight"] = torch.cat(packed)
            elif part in _IN_LAYER:
                out[f"{prefix}.{_IN_LAYER[part]}.{kind}"] = tensor
            elif part not in ("slf_attn.w_ks", "slf_attn.w_vs"):
                out[name] = tensor
        else:
            theirs = next((t for t in _OUTSIDE if name == t or name.startswith(t + ".")), "")
            new = _OUTSIDE.get(theirs, "") + name[len(theirs) :]
            out[new] = tensor.flatten() if theirs.endswith("fuse_token") else tensor
    return out


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
    levels = tuple(_LEVELS.values())
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
