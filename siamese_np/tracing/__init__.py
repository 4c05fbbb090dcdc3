"""A trained network looked at from inside: one pair of images, every array on its way to the loss and back.

record.py    the arrays, computed by the textbook
mistakes.py  backward passes with a mistake in them, and what the gradient checker says of each
offers.py    pairs worth a look, among the test images
page.py      all of it as one HTML page, which assets/ is put together to
"""

from siamese_np.tracing.record import Trace, trace

__all__ = ["Trace", "trace"]
