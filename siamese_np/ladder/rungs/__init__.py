"""The rungs, one idea a file, on 3x3 kernels with stride 1 and padding 1.

`unrolled` and `winograd` are written for these, all others take any kernel. Ideas that are the same forward and
backward are shown on the forward pass.
"""
