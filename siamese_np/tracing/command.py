"""`siamese-np trace`: reads a model and images, writes the page."""

import argparse
from pathlib import Path
from typing import Any

from siamese_np.datasets import Dataset, InputForm, form_of, load_data_of, read_image
from siamese_np.errors import DataError, OptionError
from siamese_np.layer import Array
from siamese_np.storage import check_output, load_model, write_atomically
from siamese_np.tracing.offers import offers
from siamese_np.tracing.page import MAX_BYTES, Pair, page
from siamese_np.tracing.record import Trace, trace

LABELS = {"similar": 0, "dissimilar": 1}


def run(args: argparse.Namespace) -> tuple[int, dict[str, Any], str]:
    """Write the page that `args` ask for; the exit status, and what to say as JSON values and as text."""
    output = Path(args.output)
    if output.suffix not in (".html", ".htm"):
        raise OptionError(f"--output must end in .html, not {output.name!r}")
    check_output(output, "--output", rb"<!DOCTYPE html>.*siamese_np trace</title>", args.overwrite, args.model)
    siamese = load_model(args.model)
    numbers = [name for name in (args.a, args.b) if name.removeprefix("-").isdecimal()]
    dataset = None if args.only and not numbers else load_data_of(siamese, args.data, args.split)
    form = form_of(siamese)
    (a, of_a, class_a), (b, of_b, class_b) = (_image(name, dataset, form) for name in (args.a, args.b))
    label = LABELS.get(args.label)
    if label is None and None not in (class_a, class_b):
        label = int(class_a != class_b)
    own = trace(siamese, a, b, label)
    title = "test images you named" if len(numbers) == 2 else "your pictures"
    if label is None:
        title += f" (taken for {'similar' if own.label == 0 else 'dissimilar'})"
    pairs = [Pair(own, title, of_a, of_b)]
    if dataset is not None and not args.only and dataset.test.images.shape[1:] == siamese.network.input_shape:
        for offer in offers(siamese, dataset.test):
            (a, of_a, class_a), (b, of_b, class_b) = (_image(str(n), dataset, form) for n in (offer.a, offer.b))
            pairs.append(Pair(trace(siamese, a, b, int(class_a != class_b)), offer.title, of_a, of_b))
    content = page(siamese, pairs).encode()
    write_atomically(output, content)
    slow = ", which takes a while" * (len(content) > MAX_BYTES)
    text = f"{own}\n{output}: {len(content) / 1e6:.1f} MB, open it in a browser{slow}"
    if not own["ddist"][0] or not own["dist"][0]:
        why = "it is dissimilar, and beyond the margin" if own["dist"][0] else "its embeddings are equal"
        text += f"\nthis pair has no gradient: {why}; try other images, or move the sliders of the page"
    return 0, _said(output, len(content), own), text


def _said(output: Path, size: int, own: Trace) -> dict[str, Any]:
    numbers = {name: float(own[name][0]) + 0.0 for name in ("dist", "loss", "ddist")}  # no -0
    return {"output": str(output), "bytes": size, "label": own.label, "margin": own.margin, **numbers}


def _image(name: str, dataset: Dataset | None, form: InputForm) -> tuple[Array, str, int | None]:
    """The image called `name`, a file or the number of a test image; what it is; and its class, if known."""
    if dataset is None or not name.removeprefix("-").isdecimal():
        return read_image(name, form), Path(name).name, None
    test, number = dataset.test, int(name)
    if not 0 <= number < len(test):
        raise DataError(f"{dataset.name} has the test images 0 to {len(test) - 1}, not {name}")
    return test.images[number], f"test image {number}, class {test.classes[number]}", int(test.classes[number])
