"""The benchmark suite behind ``siamese-np bench``: what this machine can do, and how close the kernels come.

Reading order: `probe` (the machine's roofs), `sampling` (how anything is timed), `ladder` (one convolution,
from Python loops to what training runs), `end_to_end` (what a person waits for), `peers` (the same work in
other frameworks), `suite` (all of it in one run), `report` and `compare` (what is done with the numbers).
"""
