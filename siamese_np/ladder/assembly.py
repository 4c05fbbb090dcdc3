"""Which vectors the compiled code really uses, counted in its assembly."""

import re
from collections.abc import Callable
from typing import Any

# Multiply-adds of float32: x86 by register, and NEON/SVE of 64-bit ARM.
PATTERNS = {
    512: r"\bvfn?m(?:add|sub)\d*ps\b.*%?zmm",
    256: r"\bvfn?m(?:add|sub)\d*ps\b(?!.*zmm).*%?ymm",
    128: r"\bvfn?m(?:add|sub)\d*ps\b(?!.*[zy]mm)|\bfml[as]\s+v\d+\.4s",
    32: r"\bvfn?m(?:add|sub)\d*ss\b|\bfn?m(?:add|sub)\s+s\d+",
}


def multiply_adds(function: Callable[..., Any]) -> dict[str, int] | None:
    """Fused float32 multiply-adds in the code of a compiled `function`, by vector width in bits.

    None where there is no code to read: the function is not compiled, or Numba loaded it from its cache.
    """
    compiled: Any = getattr(function, "compiled", function)
    try:
        text = "\n".join(compiled.inspect_asm().values())
    except (AttributeError, RuntimeError):
        return None
    return {str(width): len(re.findall(pattern, text)) for width, pattern in PATTERNS.items()} if text else None


def widest(counts: dict[str, int] | None) -> int | None:
    """Width in bits of the widest vectors that multiply and add, or None where that is not known."""
    return max((int(width) for width, count in (counts or {}).items() if count), default=None)
