"""What runs the kernels: compiler and cache (jit), threads (scheduler, shards), memory that is used again (buffers).

Numba reads its settings when it is imported. A wrong one is a traceback there, if not a crash, so they are checked here
before. Each may be left unset.
"""

import os
import re

from siamese_np.errors import OptionError

_FLAG = ("0 or 1", "[0-9]{1,9}")
_NUMBA = {
    "NUM_THREADS": ("a whole number of at least 1", "0*[1-9][0-9]{0,8}"),
    "OPT": ("0, 1, 2, 3 or max", "[0-3]|max"),
    "CPU_FEATURES": ("names with + or - before each, such as +avx2,-avx512f", r"([+-][\w.-]+(,[+-][\w.-]+)*)?"),
    **dict.fromkeys(("DISABLE_JIT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX"), _FLAG),
    **dict.fromkeys(("DISABLE_INTEL_SVML", "DEVELOPER_MODE", "DEBUG", "DEBUGINFO", "ENABLE_PROFILING"), _FLAG),
}

for _name, (_wanted, _pattern) in _NUMBA.items():
    _value = os.environ.get(f"NUMBA_{_name}")
    if _value is not None and not re.fullmatch(_pattern, _value.strip()):
        raise OptionError(f"NUMBA_{_name} must be {_wanted}, not {_value[:20]!r}")
