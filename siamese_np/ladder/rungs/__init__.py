"""The rungs, one file each; within a file forward, dx and dw. The ladder has 3x3 kernels, stride 1, padding 1.

`loops`, `im2col`, `channels` and `skipping` take others too; `unrolled` and `winograd` are written for these.
"""
