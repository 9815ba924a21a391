"""How long the runs of `training.reproduce` will take, before they start."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch

from hitrs_fast.heads import DETECTION_DILATE
from hitrs_fast.skeleton import LAYOUTS

from .data.loader import LONGEST
from .data.store import Store
from .detection import DetectionRecipe, detection_recipe
from .experiments import Run, Study
from .jobs import PARALLEL
from .prediction import PredictionRecipe, prediction_recipe
from .presets import pretrain_recipe
from .recognition import RecognitionRecipe, recognition_recipe

# Frames a second of training on one CPU core (docs/evidence.md, docs/performance.md), where a clip begins at every 7th.
RATE = {"small": 1000.0, "paper": 100.0}
GPU_RATE = 160_000.0  # of the paper preset: a guess, half of the bound of docs/kernels.md
EVERY_FRAME = 4.0  # times as dear: detection, in which a clip begins at every frame that counts
CONTEXT = 6 * DETECTION_DILATE  # frames around a piece of detection, whose clips do not count: a clip has 7
WINDOW = 72  # frames that prediction sees and predicts at 30 frames a second
OVERHEAD = 15.0  # seconds to start a command


class Sequences(NamedTuple):
    number: int
    """Pieces of long ones counted one by one, and 1 at least."""
    frames: int
    """Of all of them."""


def seconds_of(study: Study, planned: Run) -> float:
    """An estimate, from the frames that a run reads."""
    if planned.inputs:
        return OVERHEAD
    rate = RATE[study.scale.preset]
    if torch.cuda.is_available():
        rate = GPU_RATE * (torch.cuda.device_count() if planned.command[0] in PARALLEL else 1)
    words = dict(zip(planned.command, planned.command[1:], strict=False))
    if planned.command[0] == "pretrain":
        return OVERHEAD + _pretraining_frames(words, study.scale.preset) / rate
    dear = EVERY_FRAME if planned.command[0] == "detect" else 1.0
    return OVERHEAD + len(study.seeds) * dear * _tuning_frames(planned, words, study.scale.preset) / rate


def _pretraining_frames(words: dict[str, str], preset: str) -> float:
    training = training_sequences(words["--data"])
    recipe = pretrain_recipe(preset, LAYOUTS["ntu25"])  # as long for every layout
    sequences = float(words.get("--steps", recipe.steps)) * float(words.get("--batch-size", recipe.batch_size))
    return sequences * training.frames / training.number


def _tuning_frames(planned: Run, words: dict[str, str], preset: str) -> float:
    training = training_sequences(words["--data"])
    recipe: RecognitionRecipe | DetectionRecipe | PredictionRecipe
    counted = 1.0
    match planned.command[0]:
        case "recognize":
            recipe, frames = recognition_recipe(preset, planned.init is not None), training.frames / training.number
            if words.get("--protocol") == "linear":  # no more than reading the samples
                return recipe.turns * float(words.get("--fraction", 1)) * training.frames
        case "detect":
            recipe = detection_recipe(preset)
            frames = recipe.piece
            counted = recipe.piece / (recipe.piece + CONTEXT)
        case _:
            recipe, frames = prediction_recipe(preset), WINDOW
    least = 0.0 if "--epochs" in words else recipe.least_steps * recipe.batch_size * frames
    epochs = float(words.get("--epochs", recipe.epochs))
    return max(least, epochs * float(words.get("--fraction", 1)) * counted * training.frames)


@functools.cache
def training_sequences(path: str) -> Sequences:
    """Of a store's first split; many runs read one store."""
    store = Store.open(path)
    lengths = store.lengths[store.split(store.split_names[0])[store.sequence_sample]]
    return Sequences(max(1, int(np.ceil(lengths / LONGEST).sum())), int(lengths.sum()))
