"""The numbers of the paper's tables, as facts (Chen et al., ECCV 2022, and its supplement).

Accuracies and mAP in percent, errors (MPJPE) in mm. Keys are those of `experiments.py`: (row, column).
"""

from __future__ import annotations

Numbers = dict[tuple[str, str], float]


def _table(columns: str, **rows: str) -> Numbers:
    """Rows of numbers under the columns; `-` is a number that the paper does not give."""
    return {
        (row.replace("_", " "), column): float(number)
        for row, numbers in rows.items()
        for column, number in zip(columns.split(), numbers.split(), strict=True)
        if number != "-"
    }


# Supervised, NTU-60 cross-subject.
TABLE1 = _table("top1", joint="86.0", joint_bone="89.2", joint_bone_motion="90.0")
# Semi-supervised, NTU-60 cross-subject.
TABLE2 = _table("1% 5% 10%", joint="39.1 63.3 70.7", joint_bone_motion="49.3 71.5 77.7")
# Transfer: to PKU-MMD II (recognition, prediction) and I (detection); columns of `experiments.table3`.
TABLE3 = _table(
    "top1 map_a map_v mpjpe_mm",
    scratch="50.9 53.4 63.2 105.4",
    transferred="55.0 55.2 66.6 94.2",
)
# Which levels are pre-trained: NTU-60 cross-subject, all labels.
TABLE4 = _table(
    "top1 mpjpe_mm",
    none="79.6 98.4",
    F="80.8 97.3",
    C="81.1 96.7",
    V="82.0 88.1",
    FC="83.9 95.4",
    FV="84.1 87.4",
    CV="84.0 90.2",
    FCV="86.0 85.6",
)
# The same for detection on PKU-MMD I.
TABLE5 = _table(
    "map_a map_v", none="53.4 63.2", F="55.5 64.1", C="55.3 63.9", V="55.9 63.9", FC="55.6 65.1", FV="57.9 64.0",
    CV="56.3 64.0", FCV="58.4 66.3",
)  # fmt: skip
