"""What a compiled kernel must keep to at the paper's sizes."""

from __future__ import annotations

from collections.abc import Callable

from bench.offline import GPUS, Launch, build, launches

NVIDIA = ("sm_80", "sm_90")


def check_budgets(
    launch: Launch, target: str, blocks: int = 1, tile_rows: int | None = 64, all_configs: bool = False
) -> None:
    """No spills, shared memory within a block's limit, `blocks` a multiprocessor, matrix instructions where meant.

    tile_rows: rows of the products; Hopper's own instructions take 64. None for a kernel without products.
    """
    for config in launch.configs if all_configs else launch.configs[:1]:
        built = build(launch, target, config)
        where = f"{launch.name}, {config}, {target}: {built._replace(asm={})}"
        assert built.stack == 0, where
        assert built.shared <= GPUS[target].block_shared, where
        assert built.blocks(GPUS[target])[0] >= (blocks if config is launch.configs[0] else 1), where
        if tile_rows is not None:
            assert built.instructions["HGMMA" if target == "sm_90" and tile_rows >= 64 else "HMMA"] > 0, where


def check_single(launch: Launch, target: str) -> None:
    """float32 products stay IEEE: nothing is asked of the matrix units."""
    built = build(launch, target)
    assert built.instructions["HMMA"] == built.instructions["HGMMA"] == 0, launch.name


def check_amd(function: Callable[[], object]) -> None:
    """All of the function's kernels compile for a CDNA 3 GPU."""
    for launch in launches(function):
        assert len(build(launch, "gfx942").asm["amdgcn"]) > 0
