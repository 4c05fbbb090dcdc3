"""The reading of a digit: made pictures of every kind, and what must not change it."""

import numpy as np
import pictures
import pytest
from PIL import Image

from siamese_np import load_model
from siamese_np.datasets import load_dataset
from siamese_np.datasets.mnist_form import as_mnist_form, to_mnist_form
from siamese_np.errors import DataError


@pytest.fixture(scope="module")
def dataset():
    return load_dataset()


@pytest.fixture(scope="module")
def reader():
    """Embeds forms (N, 28, 28), and names the class of the nearest mean."""
    siamese = load_model("mnist")
    assert siamese.novelty is not None
    means = siamese.novelty.class_means

    def embed(forms):
        return siamese.embed(np.ascontiguousarray(forms, np.float32)[..., np.newaxis])

    def nearest(emb):
        return np.linalg.norm(emb[:, np.newaxis] - means, axis=-1).argmin(1)

    return embed, nearest


@pytest.fixture(scope="module")
def digits(dataset, reader):
    """Test digits (N, 28, 28) whose class is right when their files are read."""
    embed, nearest = reader
    images, classes = dataset.test.images[:1500, ..., 0], dataset.test.classes[:1500]
    right = nearest(embed(images)) == classes
    return images[right], classes[right]


def read(picture):
    """Its form, or an empty one where it is refused."""
    try:
        return to_mnist_form(picture)
    except DataError:
        return np.zeros((28, 28), np.float32)


def check_kind(name, digits, reader, count):
    embed, nearest = reader
    rng = np.random.default_rng(0)
    forms = [read(pictures.KINDS[name](image, rng)) for image in digits[0][:count]]
    assert (nearest(embed(forms)) == digits[1][:count]).mean() >= pictures.RIGHT.get(name, 0.97)


@pytest.mark.parametrize("name", pictures.KINDS)
def test_every_kind_of_picture(name, digits, reader):
    check_kind(name, digits, reader, 50)


@pytest.mark.long
@pytest.mark.parametrize("name", pictures.KINDS)
def test_every_kind_of_picture_many(name, digits, reader):
    check_kind(name, digits, reader, 1000)


def test_border_place_and_container_do_not_matter(digits, reader):
    """The file's own bytes, without their margin, with others, in a corner, dark on light, in an IDX stack."""
    embed, _ = reader
    for image in digits[0][:60]:
        scan = pictures.as_bytes(image)
        ink = pictures.tight(scan)
        same = [scan, ink, 255 - scan, 255 - ink, *(np.pad(ink, k) for k in (1, 2, 5, 40, 300))]
        same += [np.pad(ink, ((0, 70), (31, 4))), np.pad(ink, ((3, 0), (0, 60)))]
        forms = [to_mnist_form(picture) for picture in same]
        forms.append(as_mnist_form(scan[np.newaxis])[0])
        emb = embed(forms)
        assert np.linalg.norm(emb - emb[0], axis=1).max() < 0.01


@pytest.mark.parametrize("side", [8, 16, 60, 300])
def test_the_margin_of_any_picture_does_not_matter(side, digits, reader):
    embed, _ = reader
    far = []
    for image in digits[0][:30]:
        fitted = pictures.fitted(image, side) if side < 28 else pictures.tight(pictures.stroke(image, side))
        scan = pictures.as_bytes(0.9 - 0.8 * fitted)
        emb = embed([to_mnist_form(np.pad(scan, k, constant_values=scan.max())) for k in (0, 1, 2, 7, 50, 400)])
        far.append(np.linalg.norm(emb[1:] - emb[1], axis=1).max() < 0.01 and np.linalg.norm(emb[0] - emb[1]) < 0.1)
    assert np.mean(far) >= 0.95


def test_size_does_not_matter(digits, reader):
    embed, nearest = reader
    emb = {side: [] for side in (12, 16, 20, 24, 32, 40, 64, 150, 400, 1200)}
    for image in digits[0][:25]:
        large = Image.fromarray(pictures.as_bytes(0.9 - 0.75 * np.pad(pictures.stroke(image, 600), 100)))
        for side, found in emb.items():
            found.append(read(np.asarray(large.resize((side, side), Image.Resampling.BICUBIC))))
    emb = {side: embed(found) for side, found in emb.items()}
    same = {side: (nearest(found) == nearest(emb[400])).mean() for side, found in emb.items()}
    assert np.mean([share for side, share in same.items() if side < 40]) >= 0.97
    assert np.mean([share for side, share in same.items() if side >= 40]) >= 0.99
    for side in (40, 64, 150, 1200):
        assert (np.linalg.norm(emb[side] - emb[400], axis=1) < 0.1).mean() >= 0.95


def test_a_thick_zero_that_fills_its_frame_keeps_its_hole():
    y, x = np.ogrid[:16, :16]
    r = np.hypot((y - 7.5) / 8, (x - 7.5) / 6.5)
    ring = (r > 0.45) & (r < 1.02)
    form = to_mnist_form(ring)
    assert form[14, 14] < 0.2 and form[5:24, 14].max() > 0.9
    np.testing.assert_allclose(form, to_mnist_form(np.pad(ring, 4)), atol=0.02)
    np.testing.assert_allclose(form, to_mnist_form(~ring), atol=0.02)


@pytest.mark.parametrize("light", ["even", "linear", "shadow", "vignette"])
@pytest.mark.parametrize("darkness", [0.12, 0.25])
def test_a_ring_in_pencil_stays_closed(light, darkness):
    """As much ink in each quarter, whatever the light."""
    rng = np.random.default_rng(3)
    y, x = np.ogrid[-1:1:256j, -1:1:256j]
    ring = np.clip(4 - abs(np.hypot(x, y) - 0.5) * 50, 0, 1)
    form = to_mnist_form(pictures.paper((256, 256), rng, light) * (1 - darkness * ring))
    middle = form[4:24, 4:24]
    quarters = [
        middle[rows, columns].sum() for rows in (slice(10), slice(10, 20)) for columns in (slice(10), slice(10, 20))
    ]
    assert min(quarters) > 0.75 * max(quarters)


def test_several_digits_are_refused(digits):
    """Side by side, each as high as the other; what is read otherwise would be neither."""
    rng = np.random.default_rng(0)
    refused = 0
    for image, other in zip(digits[0][:40], digits[0][40:80], strict=True):
        try:
            to_mnist_form(pictures.two_digits(image, rng, other))
        except DataError as error:
            refused += "several digits" in str(error)
    assert refused >= 38


def test_a_stack_is_read_as_its_pictures_are(digits):
    stack = np.stack([pictures.moved(image, np.random.default_rng(i)) for i, image in enumerate(digits[0][:20])])
    stack[::2] = pictures.as_bytes(digits[0][:20:2])
    assert np.array_equal(as_mnist_form(stack), np.stack([to_mnist_form(picture) for picture in stack]))
    stack[3] = 0
    with pytest.raises(DataError, match="picture 3: all its pixels"):
        as_mnist_form(stack)
    with pytest.raises(DataError, match="3-D array"):
        as_mnist_form(stack[0])


@pytest.mark.parametrize("side", [100, 400])
def test_a_border_that_is_nearly_of_one_colour_counts_as_one(side, dataset):
    """A fat 1 with the ripples that resampling leaves around it: without a margin it would be the background."""
    fat = pictures.as_bytes(0.9 - 0.75 * np.pad(pictures.stroke(dataset.test.images[4035, ..., 0], 600), 100))
    form = to_mnist_form(np.asarray(Image.fromarray(fat).resize((side, side), Image.Resampling.LANCZOS)))
    assert form[14, 14] > 0.9 and np.corrcoef(form.ravel(), dataset.test.images[4035].ravel())[0, 1] > 0.9
