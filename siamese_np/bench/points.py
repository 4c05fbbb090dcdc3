"""The comparison with peers at other points: input without zeros, AVX2 at most on both sides, each number of threads.

How engines are held to AVX2 is `SWITCHES`, environment variables by framework. An engine without such a switch is left
out and named.
"""

import itertools
import os
from typing import Any

import numpy as np
from llvmlite import binding

from siamese_np.bench.sampling import Log
from siamese_np.datasets import Split
from siamese_np.errors import OptionError

ONEDNN = {"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "AVX2"}
SWITCHES: dict[str, dict[str, str]] = {
    "siamese_np": {},  # but NUMBA_CPU_FEATURES, the processor's less those of AVX-512: see `avx2_environment`
    "torch": {**ONEDNN, "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "tensorflow": ONEDNN,
    "jax": {**ONEDNN, "XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
}


def avx2_environment() -> dict[str, str]:
    """Environment variables that hold all of `SWITCHES` to AVX2; OptionError on a processor without it."""
    features = binding.get_host_cpu_features()
    if not features.get("avx2"):
        raise OptionError("the section avx2 is for processors with AVX2, which this one does not have")
    wider = ("avx512", "avx10")
    allowed = ",".join(f"{'+' if on and not name.startswith(wider) else '-'}{name}" for name, on in features.items())
    settings = {name: value for switch in SWITCHES.values() for name, value in switch.items()}
    flags = f"{os.environ.get('XLA_FLAGS', '')} {settings['XLA_FLAGS']}".strip()
    return {**settings, "XLA_FLAGS": flags, "NUMBA_CPU_FEATURES": allowed}


def run(name: str, split: Split, options: dict[str, Any], log: Log) -> dict[str, Any]:
    """The peers at the point `name`: what the section peers gives, and what differs there.

    ``"dense-input"`` adds ``"zeros"``, the share of zeros of each layer's input on the data and on noise, by preset;
    ``"avx2"`` adds ``"left_out"``, the titles of engines for these tasks that have no switch; ``"thread-counts"`` has a
    result each.
    """
    from siamese_np.bench.suite import load_peers

    peers = load_peers()
    if name == "thread-counts":
        return {str(count): peers.run(split, {**options, "threads": [count]}, log) for count in options["threads"]}
    if name == "dense-input":
        noise = np.random.default_rng(0).random(split.images.shape, np.float32)
        found: dict[str, Any] = peers.run(Split(noise, split.classes), options, log)
        few = {"data": split.images[:256], "noise": noise[:256]}
        return {**found, "zeros": {kind: zeros(images) for kind, images in few.items()}}
    chosen = [who for who in options["peers"] or peers.KNOWN if set(peers.KNOWN[who].does) & set(peers.UNTRAINED)]
    limited = [who for who in chosen if peers.KNOWN[who].framework in SWITCHES]
    found = peers.run(split, {**options, "peers": limited}, log)
    return {**found, "left_out": [peers.KNOWN[who].title for who in chosen if who not in limited]}


def zeros(images: np.ndarray) -> dict[str, dict[str, float]]:
    """The share of zeros in what each layer with weights gets, by preset and layer."""
    from siamese_np.bench.end_to_end import PRESETS, untrained

    shares: dict[str, dict[str, float]] = {}
    for preset in PRESETS:
        rows = untrained(preset).summary(images).rows
        shares[preset] = {after.name: before.zeros for before, after in itertools.pairwise(rows) if after.params}
    return shares
