"""Words that several tables share."""


def threads_text(count: int | str) -> str:
    """``"1 thread"``, ``"2 threads"``."""
    return f"{count} thread" if int(count) == 1 else f"{count} threads"
