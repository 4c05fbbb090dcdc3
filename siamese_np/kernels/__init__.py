"""Every operation as compiled loops. What each computes, and why, says the textbook page of the same name.

A kernel writes its result into its first argument(s), trusts its arguments (layers check them) and never raises.
Gradients of parameters (``dw``, ``db``) are added to, so that weights may be shared: the caller zeroes them. Gradients
of inputs (``dx``) are overwritten; an empty one is not wanted, and not computed. The shards that threads take depend on
the size of the work alone, never on the number of threads, so neither does any bit of a result.
Whatever is decorated with `siamese_np.runtime.jit.kernel`, in any file here, is found.
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

_found: dict[str, Any] = {}
for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    _things = vars(import_module(_module.name))
    _found |= {name: thing for name, thing in _things.items() if getattr(thing, "is_kernel", False)}

globals().update(_found)
__all__ = sorted(_found)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
