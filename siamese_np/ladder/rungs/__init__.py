"""The rungs, one file each; within a file forward, dx and dw. All take 3x3 kernels, stride 1, padding 1.

`loops`, `im2col` and `channels` would take any; the unrolled ones are written for these.
"""
