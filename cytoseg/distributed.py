"""The processes of a distributed training."""

import os


def process_rank() -> int:
    """Return this process's rank under torchrun or accelerate; 0 if there is only one process."""
    return int(os.environ.get("RANK", "0"))
