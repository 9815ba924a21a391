"""Fast Hi-TRS encoders for sequences of human joints.

The paper is Chen et al., "Hierarchically Self-Supervised Transformer for Human Skeleton Representation Learning" (ECCV
2022); "the authors" is their code. Coordinates are in metres, unless the encoder was trained on others.

Shape legend: F frames of all sequences one after another, J joints, C coordinates, B sequences (one body's track each),
T frames of one of them, K clips of all sequences one after another, w frames of a clip, N samples (recordings). Widths
D1, D2, D3 belong to frames, clips and videos. `[]` is a scalar.
"""

from . import compat
from .checkpoint import load_authors_checkpoint, save_authors_checkpoint
from .config import HiTRSConfig, LossWeights, PretextConfig
from .encoder import Capacity, HiTRS, HiTRSOutput
from .heads import FrameClassifier, Recognizer
from .mapping import JointMapping, joint_mapping
from .motion import MotionPredictor, TrajectoryPredictor
from .pretext import PretextBatch, Pretraining
from .skeleton import LAYOUTS, SkeletonLayout

__version__ = "0.1.0"

__all__ = [
    "LAYOUTS",
    "Capacity",
    "FrameClassifier",
    "HiTRS",
    "HiTRSConfig",
    "HiTRSOutput",
    "JointMapping",
    "LossWeights",
    "MotionPredictor",
    "PretextBatch",
    "PretextConfig",
    "Pretraining",
    "Recognizer",
    "SkeletonLayout",
    "TrajectoryPredictor",
    "compat",
    "joint_mapping",
    "load_authors_checkpoint",
    "save_authors_checkpoint",
]
