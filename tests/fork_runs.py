"""Runs commands in children of a process that has imported torch already, so that twenty starts take no minute.

A process of its own, because forking is safe only where torch has started no threads. A line on stdin is a JSON list:
"pretrain" or "recognize", then arguments; the answers are the child's process id and, once it ended, its wait status.
"""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch._dynamo  # noqa: F401 - optimisers load it, which takes seconds
from run_cases import tiny_models

from training import pretrain, recognize

COMMANDS = {"pretrain": pretrain.main, "recognize": recognize.main}


def child(line: str) -> None:
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    name, *args = json.loads(line)
    COMMANDS[name](args)


def main() -> None:
    tiny_models(pytest.MonkeyPatch())
    # torch names its own cache here as torch._dynamo loads; a command by itself has chosen the run's by then.
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(line)
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            finally:
                os._exit(status)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
