"""Sizes of the encoder and the rules of the pretext tasks, with the presets `paper`, `authors` and `small`.

"The paper" is Chen et al., "Hierarchically Self-Supervised Transformer for Human Skeleton Representation Learning"
(ECCV 2022); "the authors" is their published code, which differs from it in places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .skeleton import LAYOUTS, STREAMS, SkeletonLayout

PRESETS = ("paper", "authors", "small")


def layout_from(layout: str | SkeletonLayout | Mapping[str, Any]) -> SkeletonLayout:
    """A layout by name, as it is, or from the mapping that a `config.json` holds."""
    if isinstance(layout, SkeletonLayout):
        return layout
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}; or pass a SkeletonLayout")
        return LAYOUTS[layout]
    return SkeletonLayout(
        layout["name"], tuple(layout["joint_names"]), tuple(layout["parents"]), int(layout.get("hip", 0))
    )


@dataclass(frozen=True)
class HiTRSConfig:
    """Every size of the encoder. Triples are for the frame, clip and video level.

    The defaults are those of the preset `paper`. Raises ValueError for sizes that do not fit together.
    """

    layout: SkeletonLayout = LAYOUTS["ntu25"]
    """The joints and the bones; may be given by name, or as the mapping that a `config.json` holds."""
    channels: int = 3
    """Coordinates of a joint."""
    window: int = 7
    """Frames of a clip."""
    stride: int = 7
    """Frames from one clip to the next."""
    dilate: int = 2
    """Frames from one frame of a clip to the next."""
    widths: tuple[int, int, int] = (128, 256, 512)
    """Widths D1, D2, D3 of a token; even, D2 a multiple of 4."""
    ffn: tuple[int, int, int] = (128, 128, 256)
    """Hidden widths of the feed-forward blocks."""
    layers: int = 2
    """Transformer layers at each level."""
    heads: int = 8
    """Heads of the attention at each level."""
    head_dim: int = 64
    """Width of a head. The paper's `heads * head_dim`, 512, is not the width of a token."""
    dropout: float = 0.2
    """After the attention's output projection and after the feed-forward block's second matrix."""
    max_clips: int = 200
    """Rows of the video level's position table: more clips in one sequence are an error at `levels="video"`."""
    self_visible: bool = False
    """Whether a joint sees itself in the clip level's same-frame mask (authors: yes; the paper's text: no)."""
    input_norm: bool = False
    """LayerNorm after the joint embedding (authors: yes; paper: none)."""
    stream: str = "joint"
    """What the encoder was trained on: joint, bone or motion. `HiTRS.embed` derives it from coordinates."""
    center: bool = False
    """Whether sequences are moved so that the first frame's hip is the origin, before the stream is taken."""
    align: bool = False
    """Whether they are then turned about the vertical so that the body faces the camera in that frame."""
    in_place: bool = False
    """Whether every frame is then moved so that its own hip is above or below the origin: for detection in recordings
    in which bodies walk about. Heights stay."""

    def __post_init__(self) -> None:
        # JSON knows neither tuples nor dataclasses.
        object.__setattr__(self, "layout", layout_from(self.layout))
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "ffn", tuple(self.ffn))
        sizes = ("channels", "stride", "dilate", "layers", "heads", "head_dim", "max_clips")
        for name, value in [(n, getattr(self, n)) for n in sizes] + [("widths", min(self.widths))]:
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.window < 2:
            raise ValueError(f"window is {self.window}; a clip needs at least 2 frames")
        if len(self.widths) != 3 or len(self.ffn) != 3 or any(w % 2 for w in self.widths) or self.widths[1] % 4:
            raise ValueError("widths and ffn are triples; widths must be even, the clip width a multiple of 4")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.stream not in STREAMS:
            raise ValueError(f"stream is {self.stream!r}, not one of {', '.join(STREAMS)}")
        if self.align and (not self.center or self.channels != 3 or not self.layout.sides):
            raise ValueError(
                f"align needs center, three coordinates and a layout with left and right hips or shoulders; here are "
                f"center {self.center}, channels {self.channels} and the layout {self.layout.name!r}"
            )
        if self.in_place and not self.center:
            raise ValueError("in_place needs center")

    @property
    def joints(self) -> int:
        """Joints of the layout."""
        return self.layout.joints

    @property
    def clip_tokens(self) -> int:
        """Tokens of a clip: each joint of each frame, then CLS."""
        return self.window * self.joints + 1

    @classmethod
    def paper(cls, layout: str | SkeletonLayout = "ntu25", **sizes: Any) -> HiTRSConfig:
        """The sizes that the paper gives (its section 4.3); `sizes` replaces any of them."""
        return cls(layout=layout_from(layout), **sizes)

    @classmethod
    def authors(cls, layout: str | SkeletonLayout = "ntu25", **sizes: Any) -> HiTRSConfig:
        """The sizes of the authors' code: three layers a level, LayerNorm on the input, a joint sees itself."""
        defaults: dict[str, Any] = {"layers": 3, "self_visible": True, "input_norm": True}
        return cls(layout=layout_from(layout), **(defaults | sizes))

    @classmethod
    def small(cls, layout: str | SkeletonLayout = "ntu25", **sizes: Any) -> HiTRSConfig:
        """For CPUs: half the authors' widths, a quarter of their attention width, two layers."""
        defaults: dict[str, Any] = {
            "widths": (64, 128, 256),
            "ffn": (64, 64, 128),
            "heads": 8,
            "head_dim": 16,
            "dropout": 0.1,
            "self_visible": True,
            "input_norm": True,
            "center": True,
        }
        return cls(layout=layout_from(layout), **(defaults | sizes))

    @classmethod
    def preset(cls, name: str, layout: str | SkeletonLayout = "ntu25", **sizes: Any) -> HiTRSConfig:
        """The preset `name`: "paper", "authors" or "small". Raises ValueError for another."""
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        return getattr(cls, name)(layout, **sizes)


@dataclass(frozen=True)
class PretextConfig:
    """Where the paper (its section 3.2) and the authors' code define a pretext task differently.

    The defaults are the authors'. Raises ValueError for a word that is not listed or a number out of range.
    """

    mask_ratio: float = 0.15
    """Probability that a joint of a frame is selected for the spatial task."""
    fill: str = "ones"
    """What 80 % of the selected joints become: "ones", (1, 1, 1); "box", uniform in the sequence's bounding box."""
    other_frame_only: bool = True
    """Whether the 10 % that take another joint's place take it from another frame only."""
    pose_loss: str = "smooth_l1"
    """"smooth_l1": SmoothL1 of 10 x metres, mean over coordinates; "l1": mean over joints of the L1 norm."""
    moving_clips_only: bool = True
    """Whether the clip task draws only clips in which something moves."""
    swap_distance: int = 2
    """Least distance of two frames or clips that are swapped (shorter lists use what they allow)."""
    order_loss: str = "mean"
    """"mean" over originals and permuted ones; "sum" of the two terms of the paper's equation 6 (twice the mean)."""
    temperature: float = 0.07
    """Divides the cosines of the contrastive task."""

    def __post_init__(self) -> None:
        for name, known in (
            ("fill", ("ones", "box")),
            ("pose_loss", ("smooth_l1", "l1")),
            ("order_loss", ("mean", "sum")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(known)}")
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}; it must lie between 0 and 1")
        if self.swap_distance < 1 or self.temperature <= 0:
            raise ValueError("swap_distance must be at least 1 and temperature above 0")

    @classmethod
    def preset(cls, name: str) -> PretextConfig:
        """The rules of "paper", "authors" or "small", which has the authors'. Raises ValueError for another name."""
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
        if name != "paper":
            return cls()
        return cls(
            fill="box",
            other_frame_only=False,
            pose_loss="l1",
            moving_clips_only=False,
            swap_distance=1,
            order_loss="sum",
        )


@dataclass(frozen=True)
class LossWeights:
    """Weight of each pretext loss in their sum. 0 switches the task off and skips its work.

    Raises ValueError if one is negative or all are 0.
    """

    spatial: float = 1.0
    """Reconstruction of corrupted joints (frame level)."""
    clip: float = 1.0
    """Order of a clip's frames (clip level)."""
    video: float = 1.0
    """Order of a video's clips (video level)."""
    contrast: float = 1.0
    """Finding a video's last clip among the batch's (video level)."""

    def __post_init__(self) -> None:
        values = (self.spatial, self.clip, self.video, self.contrast)
        if min(values) < 0 or max(values) == 0:
            raise ValueError(f"loss weights are {values}; none may be negative and one must be above 0")
