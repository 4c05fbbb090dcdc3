"""The report of a run: what was measured while it trained, and one HTML page to look around in.

health.py    gradient norms and dead units of each layer, after each epoch
shown.py     which test images the page has pictures of, and their places on the map
page.py      the page, which assets/ is put together to
"""
