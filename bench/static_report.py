"""python -m bench.static_report [FILE]: what the kernels cost on GPUs, from their compiled code, without a GPU.

Prints the tables and writes them into FILE (docs/kernels.md) between its two marks. About half a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from . import paper_work, step_model
from .offline import GPUS, Launch, build, launches
from .paper_work import CLIP, JOINTS
from .step_model import HALF, Pass

BEGIN, END = "<!-- tables: python -m bench.static_report -->", "<!-- end of tables -->"
LARGER = GPUS["sm_80"]._replace(name="A100 80 GB", bandwidth=2.039e12)
WORKS: dict[str, Callable[[], None]] = {
    "clips": partial(paper_work.attention, "clips", HALF),
    "frames": partial(paper_work.attention, "frames", HALF),
    "one query, clips": partial(paper_work.pool, "clip", HALF),
    "one query, videos": partial(paper_work.pool, "video", HALF),
    "feed-forward, frames": partial(paper_work.mlp, "frame", HALF),
    "feed-forward, clips": partial(paper_work.mlp, "clip", HALF),
    "feed-forward, videos": partial(paper_work.mlp, "video", HALF),
    "wide projection": partial(paper_work.projection, HALF),
    "joints": paper_work.embedding,
}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def compiled() -> str:
    found = [(name, launch) for name, work in WORKS.items() for launch in launches(work)]
    rows = [resources(name, launch, target) for name, launch in found for target in GPUS]
    head = ["of", "kernel", "target", "warps", "registers", "spilled", "shared, KB", "blocks", "limit", "instructions"]
    return table(head, rows)


def resources(name: str, launch: Launch, target: str) -> list[object]:
    built = build(launch, target)
    blocks, limit = built.blocks(GPUS[target])
    matrix = {k: built.instructions[k] for k in ("HMMA", "HGMMA") if built.instructions[k]}
    counted = ", ".join(f"{n} {k}" for k, n in matrix.items()) or "no matrix"
    shared = f"{built.shared / 1024:.0f}"
    return [name, f"`{launch.name}`", target, built.warps, built.registers, built.stack, shared, blocks, limit, counted]


def padding() -> str:
    """How much of the tiles is no token, or a pair of tokens that do not belong together."""

    def waste(useful: float, computed: float) -> str:
        return f"{1 - useful / computed:.1%}"

    rows_of, held = -(-CLIP // 64) * 64, 64 // JOINTS
    steps = -(-CLIP // 32) * 32
    return table(
        ["tile", "rows", "scores"],
        [
            [f"clips, 64 x 64: {CLIP} of {rows_of} rows", waste(CLIP, rows_of), waste(CLIP**2, rows_of**2)],
            [f"clips, backward, 64 x 32: and {CLIP} of {steps}", waste(CLIP, rows_of), waste(CLIP**2, rows_of * steps)],
            [f"frames: {held} of {JOINTS} joints in 64 rows", waste(held * JOINTS, 64), waste(held * JOINTS**2, 64**2)],
            ["clips in 128-row tiles, for comparison", waste(CLIP, 256), waste(CLIP**2, 256**2)],
        ],
    )


def traffic() -> str:
    eager = step_model.eager_parts()
    clip, frame = (4 * step_model.WIDTHS[level] * step_model.HIDDEN[level] for level in ("clip", "frame"))
    query = 4 * step_model.WIDTHS["clip"] * paper_work.HEADS
    kinds = {
        "attention, clip": ("clips", CLIP, step_model.attention_flops("clips")),
        "attention, frame": ("frames", JOINTS, step_model.attention_flops("frames")),
        "feed-forward, clip": ("clip mlp", CLIP, (clip, 1.5 * clip)),
        "feed-forward, frame": ("frame mlp", JOINTS, (frame, 1.5 * frame)),
        "one query, clip": ("pool", CLIP, (query, 2.5 * query)),
    }
    rows = []
    for name, (kind, tokens, flops) in kinds.items():
        found = step_model.kernel_bytes(kind).values()
        ours, theirs = sum(found) * tokens, eager[kind] * tokens
        counted = [f"{f * tokens / 1e6:,.1f}" for f in flops] + [f"{b * tokens / 1e3:,.0f}" for b in found]
        rows.append([name, *counted, f"{theirs / 1e3:,.0f}", f"{ours / theirs:.3f}"])
    head = ["each", "MFLOP forward", "backward", "KB forward", "backward", "plain torch, KB of both", "ratio"]
    return table(head, rows)


def layers() -> str:
    rows = [
        [
            level,
            f"{sum(p.bytes for p in passes) / 1e3:.1f}",
            f"{theirs / 1e3:.1f}",
            f"{sum(p.bytes for p in passes) / theirs:.3f}",
        ]
        for level, passes, theirs in (
            ("frame layer", step_model.layer("frame"), step_model.eager_layer("frame")),
            ("clip layer", step_model.layer("clip"), step_model.eager_layer("clip")),
            ("last clip layer, for CLS alone", step_model.pooled(), step_model.eager_layer("clip")),
        )
    ]
    return table(["forward and backward", "KB a token", "plain torch, KB a token", "ratio"], rows)


def passes_of(level: str) -> str:
    tokens = step_model.tokens_of(256)[level == "clip"]

    def milliseconds(p: Pass) -> list[str]:
        return [f"{1e3 * tokens * p.seconds(gpu):.2f}" for gpu in GPUS.values()]

    rows = [[p.name, f"{p.bytes:,.0f}", f"{p.flops / 1e3:,.0f}", *milliseconds(p)] for p in step_model.layer(level)]
    return table([f"{level} layer", "bytes a token", "KFLOP a token", *(f"{g.name}, ms" for g in GPUS.values())], rows)


def step() -> str:
    whole = step_model.step(256)
    work = 1e-12 * sum(tokens * p.flops for _, tokens, passes in whole.groups for p in passes)
    rows = []
    for gpu in (GPUS["sm_80"], LARGER, GPUS["sm_90"]):
        seconds, eager = whole.seconds(gpu), step_model.eager_seconds(gpu)
        share = work * 1e12 / seconds / gpu.peak16
        rows.append(
            [
                gpu.name,
                f"{1e3 * seconds:.1f}",
                f"{share:.0%}",
                f"{256 / seconds:,.0f}",
                f"{1e3 * eager:.0f}",
                f"{eager / seconds:.1f}",
            ]
        )
    head = ["estimate", "step, ms", "of the matrix units' peak", "sequences/s", "plain torch, ms", "ratio"]
    frames, clips = step_model.tokens_of(256)
    return (
        f"256 sequences: {frames:,} tokens of frames, {clips:,} of clips; {whole.bytes() / 1e9:.0f} GB moved, "
        f"{work:.1f} TFLOP with what the backward computes again.\n\n" + table(head, rows)
    )


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/kernels.md")
    text = path.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{path} has no place for the tables: it needs the lines {BEGIN} and {END}")
    parts: list[tuple[str, Callable[[], str]]] = [
        ("Compiled code, bfloat16", compiled),
        ("Padding", padding),
        ("Memory traffic of the kernels", traffic),
        ("Memory traffic of a layer", layers),
        ("Passes of a frame layer, 256 sequences", partial(passes_of, "frame")),
        ("Passes of a clip layer, 256 sequences", partial(passes_of, "clip")),
        ("A pre-training step", step),
    ]
    tables = "\n\n".join(f"### {title}\n\n{make()}" for title, make in parts)
    print(tables)
    path.write_text(f"{text.split(BEGIN)[0]}{BEGIN}\n\n{tables}\n\n{END}{text.split(END)[1]}")


if __name__ == "__main__":
    main()
