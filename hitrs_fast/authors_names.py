"""The names that the Hi-TRS authors' code gives its parameters, to ours and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

LEVELS = {"s": "frame", "c": "clip", "v": "video"}
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


def from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the authors' under our names; a name that is not theirs stays as it is."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        in_layer = re.fullmatch(r"([scv])_enc\.layer_stack\.(\d+)\.(.+)\.(weight|bias)", name)
        if in_layer:
            level, number, part, kind = in_layer.groups()
            prefix = f"encoder.{LEVELS[level]}_layers.{number}"
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


def to_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of a `Pretraining` or a `Recognizer` under the authors' names: the inverse of `from_authors`."""
    levels, in_layer, outside = ({ours: theirs for theirs, ours in t.items()} for t in (LEVELS, _IN_LAYER, _OUTSIDE))
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        part_of_layer = re.fullmatch(r"encoder\.(\w+)_layers\.(\d+)\.(\w+)\.(weight|bias)", name)
        if part_of_layer:
            level, number, part, kind = part_of_layer.groups()
            prefix = f"{levels[level]}_enc.layer_stack.{number}"
            if part == "qkv":
                for theirs, third in zip(("w_qs", "w_ks", "w_vs"), tensor.chunk(3), strict=True):
                    out[f"{prefix}.slf_attn.{theirs}.weight"] = third
            else:
                out[f"{prefix}.{in_layer[part]}.{kind}"] = tensor
        else:
            ours = next(o for o in outside if name == o or name.startswith(o + "."))
            theirs = outside[ours]
            out[theirs + name[len(ours) :]] = tensor[None, None] if theirs.endswith("fuse_token") else tensor
    return out
