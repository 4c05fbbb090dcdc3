"""The benchmark behind ``siamese-np bench``: what this machine can do, and how close the kernels come.

Reading order: `probe` (the machine's limits), `sampling` (how anything is timed), `siamese_np.ladder` (one convolution,
from Python loops to what training runs), `end_to_end` (what a user waits for), `executed` (what kernels really multiply
for it), `clocks` (start-up), `op` (single operations of any shape), `points` (other inputs, instructions and threads),
`idle` (what other processes take), `suite` (all of it in one run), `report`, `pictures` and `compare` (what is done
with the numbers). Other frameworks do the same work in the repository's folder benchmarks/peers.
"""
