"""Fashion-MNIST from IDX files: read exactly, or refused by the name of the file."""

import hashlib
import io
import urllib.error
import urllib.request

import numpy as np
import pytest

from tests.data.garments import NAMES, garments, put
from vqdit.data import FashionMNIST, fashion_mnist
from vqdit.data.sources import SPLITS


@pytest.fixture
def raw(tmp_path):
    put(tmp_path / "raw", garments(40, 0), garments(12, 1), packed=False)
    return tmp_path / "raw"


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_examples_are_those_of_the_files(tmp_path, data_folder, packed):
    train, test = garments(40, 0), garments(12, 1)
    source = put(tmp_path / "raw", train, test, packed)
    expected = {
        "train": (train[0][:35], train[1][:35]),
        "validation": (train[0][35:], train[1][35:]),
        "test": test,
    }
    for name in SPLITS:
        split = source.split(name)
        arrays = split.take(np.arange(len(split)))
        images, labels = expected[name]
        np.testing.assert_array_equal(arrays["image"], images[..., None])
        np.testing.assert_array_equal(arrays["label"], labels)
    assert source.features()["label"].names[9] == "ankle boot"


def test_padding_adds_black_pixels_and_has_records_of_its_own(raw, data_folder):
    plain, padded = (FashionMNIST(path=str(raw), pad=pad) for pad in (0, 2))
    pictures = [source.split("test").take(np.arange(12))["image"] for source in (plain, padded)]
    assert padded.features()["image"].shape == (32, 32, 1)
    np.testing.assert_array_equal(pictures[1][:, 2:30, 2:30], pictures[0])
    assert pictures[1].sum(dtype=int) == pictures[0].sum(dtype=int)
    with pytest.raises(ValueError, match="pad >= 0, got -1"):
        FashionMNIST(pad=-1)


def test_the_last_5000_of_60000_are_the_validation_split(tmp_path):
    labels = (np.arange(60_000) // 6000).astype(np.uint8)
    images = np.zeros((60_000, 28, 28), np.uint8)
    source = put(tmp_path / "raw", (images, labels), garments(3, 1), packed=False)
    sizes = {name: len(part) for name, part in source.examples().items()}
    assert sizes == {"train": 55_000, "validation": 5_000, "test": 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(raw, data_folder, name):
    (raw / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no {name} \(or {name}.gz\) in {raw}"):
        FashionMNIST(path=str(raw)).split("train")


def test_a_missing_folder_is_named(tmp_path, data_folder):
    with pytest.raises(
        FileNotFoundError, match=f"in {tmp_path}/nowhere; give the path .*--data.source.path"
    ):
        FashionMNIST(path=str(tmp_path / "nowhere")).split("train")


DAMAGE = {
    "truncated": (lambda x: x[:-5], "is damaged: its header declares"),
    "too long": (lambda x: x + b"more", "is damaged: its header declares"),
    "another magic number": (lambda x: b"\x00\x00\x0d" + x[3:], "is not an IDX file of bytes"),
    "a web page": (lambda x: b"<html>not found</html>", "is not an IDX file of bytes"),
    "empty": (lambda x: b"", "is not an IDX file of bytes"),
    "no axes": (lambda x: b"\x00\x00\x08\x001", r"has the shape \[\], but its items"),
}


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_leaves_nothing(raw, data_folder, name, damage):
    change, message = DAMAGE[damage]
    (raw / name).write_bytes(change((raw / name).read_bytes()))
    with pytest.raises(ValueError, match=f"{raw / name} {message}"):
        FashionMNIST(path=str(raw)).split("train")
    assert list(data_folder.glob("*")) == []


@pytest.mark.parametrize("cut", [0, 5, 40, -4])
def test_a_damaged_archive_is_named(tmp_path, data_folder, cut):
    source = put(tmp_path / "raw", garments(40, 0), garments(12, 1))
    file = tmp_path / "raw" / f"{NAMES[2]}.gz"
    content = bytearray(file.read_bytes())
    file.write_bytes(content[:cut] + b"\xff" * 8)
    with pytest.raises(ValueError, match=str(file)):
        source.split("train")


def test_an_archive_that_inflates_beyond_the_published_sizes_is_refused(tmp_path, monkeypatch):
    source = put(tmp_path / "raw", garments(40, 0), garments(12, 1))
    monkeypatch.setattr(fashion_mnist, "LARGEST", 1000)
    with pytest.raises(ValueError, match="ubyte.gz holds more than 1,000 bytes; download it again"):
        source.split("train")


def test_images_and_labels_must_be_as_many(tmp_path, data_folder):
    images, labels = garments(40, 0)
    source = put(tmp_path / "raw", (images, labels[:-1]), garments(12, 1), packed=False)
    with pytest.raises(ValueError, match=f"{NAMES[1]} has 39 labels, but there are 40 images"):
        source.split("train")


def test_pictures_of_another_size_are_refused(tmp_path, data_folder):
    source = put(tmp_path / "raw", garments(40, 0, edge=32), garments(12, 1))
    match = rf"{NAMES[0]}.gz has the shape \[40, 32, 32\], but its items .* \[28, 28\]"
    with pytest.raises(ValueError, match=match):
        source.split("train")


def test_a_label_that_is_no_class_is_refused(tmp_path, data_folder):
    images, labels = garments(40, 0)
    labels[7] = 46
    source = put(tmp_path / "raw", (images, labels), garments(12, 1), packed=False)
    with pytest.raises(ValueError, match=f"{NAMES[1]} has the label 46, but .* labels 0 to 9"):
        source.split("train")


def test_other_files_in_the_same_folder_are_prepared_anew(tmp_path, data_folder):
    source = put(tmp_path / "raw", garments(40, 0), garments(12, 1))
    before = source.fingerprint()
    put(tmp_path / "raw", garments(40, 2), garments(11, 3))
    assert source.fingerprint() != before
    assert len(source.split("test")) == 11


def test_the_same_files_elsewhere_have_the_same_fingerprint(tmp_path, data_folder):
    one = put(tmp_path / "one", garments(40, 0), garments(12, 1))
    other = put(tmp_path / "other", garments(40, 0), garments(12, 1), packed=False)
    assert one.fingerprint() == other.fingerprint()


def test_without_files_every_way_to_get_them_is_named(data_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    with pytest.raises(FileNotFoundError) as caught:
        FashionMNIST().split("train")
    for way in ("debian", "dataset-fashion-mnist", "--download", "--data.source.path"):
        assert way in str(caught.value)


@pytest.fixture
def mirror(monkeypatch, tmp_path, data_folder):
    """The mirror's files by address, in place of the network."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    put(tmp_path / "mirror", garments(40, 0), garments(12, 1))
    files = {name: (tmp_path / "mirror" / f"{name}.gz").read_bytes() for name in NAMES}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", sums)
    served = {f"{fashion_mnist.MIRROR}{name}.gz": content for name, content in files.items()}
    asked = []

    def urlopen(address, timeout):
        asked.append(address)
        if address not in served:
            raise urllib.error.URLError("no route to host")
        return io.BytesIO(served[address])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return served, asked


def test_a_download_is_verified_kept_and_found(mirror):
    served, asked = mirror
    folder = fashion_mnist.download()
    assert sorted(asked) == sorted(served)
    assert fashion_mnist.download() == folder and len(asked) == 4
    assert len(FashionMNIST().split("train")) == 35


def test_a_download_of_something_else_is_refused(mirror):
    served, _ = mirror
    address = f"{fashion_mnist.MIRROR}{NAMES[1]}.gz"
    served[address] = b"<html>"
    with pytest.raises(OSError, match=f"{address} is not the published file"):
        fashion_mnist.download()
    assert not (fashion_mnist.downloads() / f"{NAMES[1]}.gz").exists()


def test_a_download_without_a_network_names_the_address(mirror):
    served, _ = mirror
    served.clear()
    with pytest.raises(OSError, match=rf"cannot download {fashion_mnist.MIRROR}.*no route to host"):
        fashion_mnist.download()


@pytest.mark.skipif(not fashion_mnist.DEBIAN.is_dir(), reason="needs dataset-fashion-mnist")
def test_debians_files_are_70000_garments_evenly_over_the_classes(data_folder):
    parts = FashionMNIST().examples()
    labels = {name: [example["label"] for example in part] for name, part in parts.items()}
    sizes = {name: len(part) for name, part in labels.items()}
    assert sizes == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert np.bincount(labels["train"] + labels["validation"]).tolist() == [6000] * 10
    assert np.bincount(labels["test"]).tolist() == [1000] * 10
    assert parts["train"][0]["label"] == 9 and parts["test"][-1]["label"] == 5
