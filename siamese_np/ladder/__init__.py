"""One convolution, from Python loops to what training runs: each rung verified, then timed.

`rung` puts a kernel on the ladder, `operations` says what it must compute and on which data, the files of `rungs`
are the rungs from the bottom up, `climb` verifies and times them.
"""
