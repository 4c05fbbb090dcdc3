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
    return pictures.reader("mnist")


@pytest.fixture(scope="module")
def digits(dataset, reader):
    """Validation digits (N, 28, 28) whose class is right when they are given as they are, and their classes.

    The reading may be chosen on these; those of the test set only judge it.
    """
    return pictures.known(dataset.validation, *reader)


@pytest.mark.parametrize("name", pictures.KINDS)
def test_every_kind_of_picture(name, digits, reader):
    assert pictures.share_right(name, digits, *reader, 50) >= 0.97


@pytest.mark.long
@pytest.mark.parametrize("name", pictures.KINDS)
def test_every_kind_of_picture_of_digits_that_nothing_was_chosen_on(name, dataset, reader):
    fresh = pictures.known(dataset.test, *reader, start=pictures.FRESH)
    share = pictures.share_right(name, fresh, *reader, 400)
    print(f"{name}: {share:.4f}")
    assert share >= 0.97


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


def of_sizes(sides, digits, embed, nearest):
    """For each size in pixels, of digits that were scaled to it: whether the nearest class is that of 400 pixels, and
    the distance of the embedding from that of 400 pixels."""
    emb = {side: [] for side in (400, *sides)}
    for image in digits:
        large = Image.fromarray(pictures.as_bytes(0.9 - 0.75 * np.pad(pictures.stroke(image, 600), 100)))
        for side, found in emb.items():
            found.append(pictures.read(np.asarray(large.resize((side, side), Image.Resampling.BICUBIC))))
    emb = {side: embed(found) for side, found in emb.items()}
    kind = nearest(emb[400])
    return {side: (nearest(emb[side]) == kind, np.linalg.norm(emb[side] - emb[400], axis=1)) for side in sides}


def check_sizes(found):
    assert np.mean([same for side, (same, _) in found.items() if side < 40]) >= 0.97
    assert np.mean([same for side, (same, _) in found.items() if side >= 40]) >= 0.99
    assert all((dist < 0.1).mean() >= 0.95 for side, (_, dist) in found.items() if side >= 40)


def test_size_does_not_matter(digits, reader):
    check_sizes(of_sizes((12, 16, 20, 24, 32, 40, 64, 150, 1200), digits[0][:25], *reader))


@pytest.mark.long
def test_size_does_not_matter_to_digits_that_nothing_was_chosen_on(dataset, reader):
    fresh = pictures.known(dataset.test, *reader, start=pictures.FRESH)
    found = of_sizes((12, 16, 20, 24, 32, 40, 64, 150, 1200, 3000), fresh[0][:150], *reader)
    for side, (same, dist) in found.items():
        print(f"{side} pixels: same class {same.mean():.1%}, 95 % are nearer than {np.quantile(dist, 0.95):.3f}")
    check_sizes(found)


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


@pytest.mark.parametrize(("number", "side"), [(6757, 100), (6717, 100), (7888, 400), (9391, 400)])
def test_a_border_that_is_nearly_of_one_colour_counts_as_one(number, side, dataset):
    """A fat 1 with the ripples that resampling leaves around it: without a margin it would be the background."""
    image = dataset.validation.images[number, ..., 0]
    fat = pictures.as_bytes(0.9 - 0.75 * np.pad(pictures.stroke(image, 600), 100))
    form = to_mnist_form(np.asarray(Image.fromarray(fat).resize((side, side), Image.Resampling.LANCZOS)))
    assert form[14, 14] > 0.9 and np.corrcoef(form.ravel(), image.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("strength", [0.02, 0.1, 0.3])
def test_noise_has_no_digit(strength):
    """It is refused, or looks unlike all digits: also what runs out into lines at its edge, which look like a 1."""
    siamese, found = load_model("mnist"), 0
    for seed in range(60):
        rng = np.random.default_rng([seed, round(100 * strength)])
        noise = np.clip(0.5 + strength * rng.standard_normal((28, 28)), 0, 1).astype(np.float32)
        large = np.asarray(Image.fromarray(noise).resize((112, 112), Image.Resampling.BICUBIC))
        for picture in (noise, large, np.pad(large, 20, mode="edge")):
            form = pictures.read(picture)
            _, unlike = siamese.embed_scored(form[np.newaxis, ..., np.newaxis])
            found += bool(form.any() and unlike[0] <= siamese.novelty.limit)
    assert found <= 2


@pytest.mark.parametrize(("side", "strength"), [(28, 0.1), (56, 0.15), (256, 0.2), (256, 0.3)])
def test_a_digit_in_noise_is_read(side, strength, digits, reader):
    """The digit has 0.7 of the light; noise of one pixel is the less in the way, the larger its picture is."""
    rng = np.random.default_rng(3)

    def noisy(image):
        ink = image if side == 28 else np.pad(pictures.stroke(image, side - 2 * (side // 7)), side // 7)
        return np.clip(0.9 - 0.7 * ink + strength * rng.standard_normal(ink.shape), 0, 1)

    forms = [pictures.read(pictures.as_bytes(noisy(image))) for image in digits[0][:50]]
    assert (reader[1](reader[0](forms)) == digits[1][:50]).mean() >= 0.97
