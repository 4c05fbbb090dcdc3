"""out += x @ w: the one matrix product under the dense and the convolution kernels.

    out[i, f] += sum over k of x[i, k] * w[k, f]

Four rows of out meet four rows of w at a time: for each f, eight loads feed sixteen multiply-adds, so the
arithmetic units, not the loads, set the pace. The sixteen factors of x are read into scalars before the
inner loop; it runs over contiguous memory, which is what LLVM turns into vector FMA. x may have any strides
(a transposed view costs no copy); out and w must be C-contiguous.

The order of summation over k is fixed by the loops, so a row of out does not depend on the rows around it
being computed on this or another thread.
"""

from siamese_np._jit import kernel


@kernel
def matmul_add(out, x, w):
    """out (M, F) += x (M, K) @ w (K, F)."""
    M, K = x.shape
    F = w.shape[1]
    M4, K4 = M - M % 4, K - K % 4
    for i in range(0, M4, 4):
        out0, out1, out2, out3 = out[i], out[i + 1], out[i + 2], out[i + 3]
        for k in range(0, K4, 4):
            w0, w1, w2, w3 = w[k], w[k + 1], w[k + 2], w[k + 3]
            a0, a1, a2, a3 = x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3]
            b0, b1, b2, b3 = x[i + 1, k], x[i + 1, k + 1], x[i + 1, k + 2], x[i + 1, k + 3]
            c0, c1, c2, c3 = x[i + 2, k], x[i + 2, k + 1], x[i + 2, k + 2], x[i + 2, k + 3]
            d0, d1, d2, d3 = x[i + 3, k], x[i + 3, k + 1], x[i + 3, k + 2], x[i + 3, k + 3]
            for f in range(F):
                w0f, w1f, w2f, w3f = w0[f], w1[f], w2[f], w3[f]
                out0[f] += a0 * w0f + a1 * w1f + a2 * w2f + a3 * w3f
                out1[f] += b0 * w0f + b1 * w1f + b2 * w2f + b3 * w3f
                out2[f] += c0 * w0f + c1 * w1f + c2 * w2f + c3 * w3f
                out3[f] += d0 * w0f + d1 * w1f + d2 * w2f + d3 * w3f
        for k in range(K4, K):
            wk = w[k]
            a, b, c, d = x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k]
            for f in range(F):
                out0[f] += a * wk[f]
                out1[f] += b * wk[f]
                out2[f] += c * wk[f]
                out3[f] += d * wk[f]
    for i in range(M4, M):
        out0 = out[i]
        for k in range(K):
            a, wk = x[i, k], w[k]
            for f in range(F):
                out0[f] += a * wk[f]
