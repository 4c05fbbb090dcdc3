"""The probe's one kernel that is not an instruction sequence of its own."""

from siamese_np.runtime.jit import kernel


@kernel
def axpy(a, b, scale, passes):
    """a (M,) += scale * b (M,), `passes` times."""
    for _ in range(passes):
        for m in range(a.size):
            a[m] += scale * b[m]
