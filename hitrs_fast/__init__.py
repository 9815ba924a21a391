"""hitrs_fast: fast Hi-TRS encoders for sequences of human joints."""

from . import compat
from .checkpoint import load_authors_checkpoint, save_authors_checkpoint
from .config import HiTRSConfig, LossWeights, PretextConfig
from .encoder import Capacity, HiTRS, HiTRSOutput
from .heads import FrameClassifier, MotionPredictor, Recognizer
from .mapping import JointMapping, joint_mapping
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
    "compat",
    "joint_mapping",
    "load_authors_checkpoint",
    "save_authors_checkpoint",
]
