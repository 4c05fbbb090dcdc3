"""Words that several tables and sentences share."""


def threads_text(count: int | str) -> str:
    """``"1 thread"``, ``"2 threads"``."""
    return f"{count} thread" if int(count) == 1 else f"{count} threads"


def error_text(error: BaseException) -> str:
    """An exception's type and the first line of what it says: ``"ValueError: no message"`` where that is nothing."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
