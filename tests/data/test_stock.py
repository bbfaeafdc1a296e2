"""TFDS data sets: read without TensorFlow, divided, resized, or explained."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image as Pillow
from tensorflow_datasets.proto import tf_example_pb2

from vqdit.data import TFDS, Data, stock
from vqdit.data.sources import SPLITS, Feature, root
from vqdit.data.stock_builders import plain_sounds
from vqdit.data.stock_rows import StockSound
from vqdit.modalities import Audio, Image, Label, Text, pictures
from vqdit.modalities.pictures import fit
from vqdit.typing import Named

pytestmark = pytest.mark.usefixtures("data_folder")


def picture(row, channels=3):
    shape = (20 + row % 3, 24, channels)
    return np.random.default_rng(row).integers(0, 256, shape, dtype=np.uint8)


def text(row):
    """A text of `row` bytes, of which the first two are one letter."""
    return ("é" + "abcdefgh" * 8).encode()[:row].decode(errors="ignore") or "x"


def png(pixels):
    buffer = io.BytesIO()
    Pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


def sound(row, feature):
    """A tone of a length of its own."""
    times = np.arange(400 + 10 * row) / 4000
    tone = np.round(9000 * np.sin(2 * np.pi * 200 * times))
    if len(feature.shape) == 2:
        tone = np.stack([tone, tone], axis=1)
    is_float = np.issubdtype(feature.np_dtype, np.floating)
    return (tone / 32768 if is_float else tone).astype(feature.np_dtype)


def prepare(name="tiny_pictures", sizes=None, channels=3, **features):
    """Prepares a TFDS data set of pictures of several sizes, as its own tools do."""
    sizes = sizes or {"train": 40}
    columns = {"image": tfds.features.Image(shape=(None, None, channels))} if channels else {}
    columns |= features or {"label": tfds.features.ClassLabel(names=["cat", "dog", "emu"])}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(columns), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            starts = np.cumsum([0, *sizes.values()])
            return {
                split: self._generate_examples(int(start), count)
                for start, (split, count) in zip(starts, sizes.items(), strict=False)
            }

        def _generate_examples(self, start, count):
            for row in range(start, start + count):
                example = {}
                for column, feature in columns.items():
                    if isinstance(feature, tfds.features.ClassLabel):
                        example[column] = row % 3 if row % 7 else -1
                    elif isinstance(feature, tfds.features.Audio):
                        example[column] = sound(row, feature)
                    elif column != "image":
                        example[column] = text(row)
                    else:
                        example[column] = png(picture(row, channels))
                yield row, example

    Builder.name = name
    with pytest.MonkeyPatch.context() as patch, plain_sounds():
        # Writing, not reading, the type of a sound needs TensorFlow otherwise.
        patch.setattr(tfds.features.Audio, "dtype", property(lambda feature: feature.np_dtype))
        builder = Builder(data_dir=root() / "tfds")
        builder.download_and_prepare(file_format="array_record")


def everything(source, split):
    examples = source.split(split)
    return examples.take(np.arange(len(examples)))


def rows_of(source):
    """Which pictures are in each split."""
    known = {fit(picture(row), (8, 8)).tobytes(): row for row in range(60)}
    return [[known[x.tobytes()] for x in everything(source, split)["image"]] for split in SPLITS]


def test_splits_that_it_has_are_taken_as_they_are():
    prepare(sizes={"train": 10, "validation": 4, "test": 6})
    found = rows_of(TFDS(name="tiny_pictures", size=8))
    assert found == [list(range(10)), list(range(10, 14)), list(range(14, 20))]


@pytest.mark.parametrize(
    ("sizes", "cuts"),
    [
        ({"train": 40}, (range(36), range(36, 38), range(38, 40))),
        ({"train": 40, "test": 5}, (range(38), range(38, 40), range(40, 45))),
        ({"train": 40, "validation": 5}, (range(38), range(40, 45), range(38, 40))),
    ],
)
def test_splits_that_it_lacks_are_cut_off_the_training_split(sizes, cuts):
    prepare(sizes=sizes)
    assert rows_of(TFDS(name="tiny_pictures", size=8)) == [list(cut) for cut in cuts]


def test_a_version_can_be_asked_for():
    prepare()
    assert TFDS(name="tiny_pictures:1.2.0").fingerprint()["version"] == "1.2.0"


def test_pictures_are_cropped_resized_and_made_grey():
    prepare()
    for size, channels in ((8, 3), (30, 1)):
        images = everything(TFDS(name="tiny_pictures", size=size, channels=channels), "test")[
            "image"
        ]
        for row, image in zip((38, 39), images, strict=True):
            pixels = picture(row).astype(float)
            if channels == 1:
                pixels = np.round(pixels @ [0.299, 0.587, 0.114])[..., None]
            expected = fit(pixels.astype(np.uint8), (size, size))
            np.testing.assert_array_equal(image, expected)


def test_grey_pictures_become_colour():
    prepare(channels=1)
    images = everything(TFDS(name="tiny_pictures", size=8), "test")["image"]
    expected = [fit(picture(row, 1), (8, 8)).repeat(3, axis=-1) for row in (38, 39)]
    np.testing.assert_array_equal(images, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pictures_are_laid_over_white(channels):
    prepare(channels=4)
    source = TFDS(name="tiny_pictures", size=8, channels=channels)
    for row, image in zip((38, 39), everything(source, "test")["image"], strict=True):
        pixels = picture(row, 4).astype(float)
        alpha = pixels[..., 3:] / 255
        pixels = np.round(pixels[..., :3] * alpha + 255 * (1 - alpha))
        if channels == 1:
            pixels = np.round(pixels @ [0.299, 0.587, 0.114])[..., None]
        np.testing.assert_array_equal(image, fit(pixels.astype(np.uint8), (8, 8)))


def test_labels_have_their_names_and_a_secret_one_is_missing():
    prepare()
    source = TFDS(name="tiny_pictures", size=8)
    assert source.features()["label"] == Feature((), 3, ("cat", "dog", "emu"))
    first = next(Data(source=source, batch_size=36).split_batches("train"))
    row = np.arange(36)
    np.testing.assert_array_equal(first.present["label"], row % 7 > 0)
    np.testing.assert_array_equal(first.data["label"], np.where(row % 7, row % 3, 0))
    assert first.present["image"].all()


def test_a_data_set_without_labels_has_only_pictures():
    prepare(caption=tfds.features.Text())
    source = TFDS(name="tiny_pictures", size=8)
    assert list(source.features()) == ["image"]
    assert next(Data(source=source, batch_size=4).split_batches("test")).data.keys() == {"image"}


def test_other_names_of_its_features_can_be_given():
    prepare(animal=tfds.features.ClassLabel(num_classes=3))
    source = TFDS(name="tiny_pictures", size=8, label="animal")
    assert source.features()["label"] == Feature((), 3, ("0", "1", "2"))
    assert everything(source, "test")["label"].tolist() == [38 % 3, 39 % 3]
    assert list(TFDS(name="tiny_pictures", size=8, label="").features()) == ["image"]


@pytest.mark.parametrize("fields", [{"image": "photo"}, {"label": "animal"}])
def test_a_feature_that_it_lacks_is_refused_with_those_it_has(fields):
    prepare()
    (name,) = fields.values()
    match = f"tiny_pictures has no feature '{name}'; choose one of: image, label"
    with pytest.raises(ValueError, match=match):
        TFDS(name="tiny_pictures", **fields).features()


def test_a_feature_of_another_kind_is_refused():
    prepare(label=tfds.features.Text())
    with pytest.raises(
        ValueError, match="'label' of tiny_pictures is not a class label; set --data"
    ):
        TFDS(name="tiny_pictures").features()
    with pytest.raises(ValueError, match="'label' of tiny_pictures has no uint8 pictures"):
        TFDS(name="tiny_pictures", image="label", label="").features()


def test_a_data_set_without_a_training_split_is_refused():
    prepare(sizes={"test": 5})
    with pytest.raises(ValueError, match="tiny_pictures has no training split; it has: test"):
        TFDS(name="tiny_pictures").split("train")


def test_batches_are_the_same_from_any_process():
    prepare()
    data = Data(source=TFDS(name="tiny_pictures", size=8), batch_size=4)
    whole = data.first_batch(0)
    for index in range(2):
        batches = data.train_batches(0, 0, process_index=index, process_count=2)
        rows = slice(2 * index, 2 * index + 2)
        np.testing.assert_array_equal(next(batches).data["image"], whole.data["image"][rows])
        batches.close()


def test_an_unknown_name_is_refused_with_near_ones():
    with pytest.raises(ValueError, match=r"TFDS has no data set 'celeba'; nearest: celeb_a"):
        TFDS(name="celeba").features()
    with pytest.raises(ValueError, match=r"TFDS has no data set 'cifar_10:3.0.2'; .*cifar10"):
        TFDS(name="cifar_10:3.0.2").features()


def test_an_unknown_version_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="cannot open .*'mnist:9.9.9'.*only: 3.0.1"):
        TFDS(name="mnist:9.9.9").features()


def test_a_data_set_that_is_not_prepared_names_the_command(data_folder):
    match = rf"not prepared in {data_folder}/tfds; run `vqdit prepare tfds:celeb_a`"
    with pytest.raises(FileNotFoundError, match=match):
        TFDS(name="celeb_a").split("train")


def damage(change):
    """Changes features.json, which is read if a version is asked for."""
    (file,) = (root() / "tfds").rglob("features.json")
    file.write_text(change(file.read_text()))


def test_classes_that_prepared_data_name_are_not_imported(tmp_path, monkeypatch):
    prepare()
    (tmp_path / "evil_features.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    damage(lambda text: text.replace("tensorflow_datasets.core.features.class", "evil_features.c"))
    match = "'evil_features.c_label_feature.ClassLabel', which is not a feature of TFDS"
    with pytest.raises(ValueError, match=match):
        TFDS(name="tiny_pictures:1.2.0").features()
    assert "evil_features" not in sys.modules


def test_code_of_a_namespace_runs_for_prepare_alone():
    match = "kubric:movi_e has a namespace, and only `vqdit prepare tfds:kubric:movi_e` runs"
    with pytest.raises(ValueError, match=f"{match} .*, then use the name 'movi_e'"):
        TFDS(name="kubric:movi_e").features()
    for name in ("mnist/data_dir=/x", "../x", "mnist:1", ""):
        with pytest.raises(
            ValueError, match="is not the name of a TFDS data set; write it like celeb_a"
        ):
            TFDS(name=name).features()


def test_pictures_of_data_sets_are_bounded_by_their_header(monkeypatch):
    prepare()
    source = TFDS(name="tiny_pictures", size=8)
    monkeypatch.setattr(pictures, "PIXELS", 400)
    with pytest.raises(
        OSError, match=r"Image size .528 pixels. is not allowed; it must be from 1 to 400 pixels"
    ):
        source.split("test").take(np.arange(2))


class Faulty(tfds.core.GeneratorBasedBuilder):
    """Cannot be prepared."""

    VERSION = tfds.core.Version("1.0.0")
    fault: Exception | None = None

    def _info(self):
        features = tfds.features.FeaturesDict({"label": tfds.features.ClassLabel(num_classes=2)})
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager):
        if self.fault is not None:
            raise self.fault
        return {"train": self._generate_examples(dl_manager.manual_dir)}

    def _generate_examples(self, path):
        yield 0, {"label": 0}


@pytest.mark.parametrize(
    ("missing", "command"),
    [("tensorflow", "'vqdit[tf]'"), (None, "'vqdit[tf]'"), ("apache_beam", "apache_beam")],
)
def test_a_package_that_is_not_installed_is_named_with_its_command(monkeypatch, missing, command):
    fault = ImportError("Failed to encode example ...")  # TFDS raises its own, without the name
    fault.__cause__ = ModuleNotFoundError("No module named ...", name=missing)
    monkeypatch.setattr(Faulty, "fault", fault)
    with pytest.raises(ImportError) as caught:
        stock.prepare_stock("faulty")
    assert f"not installed ({missing or 'tensorflow'}); run `pip install {command}` and" in str(
        caught.value
    )


def test_a_download_by_hand_is_explained(monkeypatch, data_folder):
    monkeypatch.setattr(Faulty, "MANUAL_DOWNLOAD_INSTRUCTIONS", "Ask the authors for pictures.tar")
    with pytest.raises(OSError) as caught:
        stock.prepare_stock("faulty")
    for part in ("'faulty' must be downloaded by hand", str(data_folder), "pictures.tar"):
        assert part in str(caught.value)


def test_a_failed_download_is_told_from_one_by_hand(monkeypatch):
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    monkeypatch.setattr(Faulty, "fault", NonMatchingChecksumError("https://x, wrong checksum"))
    with pytest.raises(OSError, match="cannot download .*'faulty': https://x, wrong checksum"):
        stock.prepare_stock("faulty")
    monkeypatch.setattr(Faulty, "fault", AssertionError("No examples were yielded."))
    with pytest.raises(OSError, match="'faulty' cannot be prepared: No examples"):
        stock.prepare_stock("faulty")


@pytest.mark.parametrize("fields", [{"size": 0}, {"channels": 2}])
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=f"TFDS needs .*got {value}"):
        TFDS(**fields)


WORDS, CLASSES = tfds.features.Text(), tfds.features.ClassLabel(names=["cat", "dog", "emu"])


def test_texts_and_classes_are_columns_by_their_names(caplog):
    prepare("letters", sizes={"train": 12, "test": 4}, channels=0, story=WORDS, animal=CLASSES)
    story = Text(length=8, variable=True, outside="cut")
    source = TFDS(name="letters", columns=Named(story=story, animal=Label(classes=3)))
    assert source.features() == Named(
        story=Feature((8,), ragged=True), animal=Feature((), 3, ("cat", "dog", "emu"))
    )
    assert [len(source.split(split)) for split in SPLITS] == [11, 1, 4]
    found = everything(source, "test")
    whole = [text(row) for row in range(12, 16)]
    assert story.unpack(found["story"]).tolist() == ["éabcdef"] * 4
    assert all(one.startswith("éabcdefgh") for one in whole)
    assert found["animal"].tolist() == [0, 1, 0, 0] and found["present_animal"].tolist() == [
        True, True, False, True,
    ]  # fmt: skip
    assert "story: cut to 8 bytes: 7" in caplog.text
    batches = list(Data(source=source, batch_size=4).split_batches("train"))
    assert len(batches) == 3 and batches[0].mask["story"].shape == (4, 8)


def test_texts_may_be_beside_pictures():
    prepare("captions", sizes={"train": 20}, caption=WORDS, label=CLASSES)
    columns = Named(image=Image(size=(8, 8)), caption=Text(length=24), label=Label(classes=3))
    found = everything(TFDS(name="captions", columns=columns), "train")
    plain = everything(TFDS(name="captions", size=8), "train")
    np.testing.assert_array_equal(found["image"], plain["image"])
    assert columns["caption"].unpack(found["caption"])[5] == text(5)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"dtype": np.float32},
        {"shape": (None, 2)},
        {"dtype": np.int16},
    ],
)
def test_sounds_are_columns_in_whatever_form_they_are_stored(fields):
    with plain_sounds():
        kind = tfds.features.Audio(**{"sample_rate": 4000, **fields})
        plain = sound(3, tfds.features.Audio(dtype=np.int16))
    prepare("tones", sizes={"train": 20}, channels=0, sound=kind, label=CLASSES)
    audio = Audio(rate=4000, seconds=(0.1, 0.12), outside="cut")
    source = TFDS(name="tones", columns=Named(sound=audio, label=Label(classes=3)))
    found = everything(source, "train")["sound"]
    np.testing.assert_array_equal(found[3], plain)
    assert [len(one) for one in found[:8]] == [400, 410, 420, 430, 440, 450, 460, 470]
    assert len(found[9]) == 480  # cut


def test_a_sound_without_a_rate_has_that_of_its_column_and_others_are_resampled():
    for rate, expected in ((None, 400), (8000, 200)):
        name = f"tones_{rate or 0}"
        with plain_sounds():
            kind = tfds.features.Audio(sample_rate=rate)
        prepare(name, sizes={"train": 20}, channels=0, sound=kind)
        source = TFDS(name=name, columns=Named(sound=Audio(rate=4000, seconds=(0.01, 1.0))))
        assert len(everything(source, "train")["sound"][0]) == expected
    assert stock.lacks_pictures("tones_8000").startswith("columns=Named(sound=Audio(rate=8000, ")


def test_a_sound_that_is_stored_as_a_file_is_read_as_it_is():
    content = Audio(rate=4000).wav(np.arange(9, dtype=np.int16))
    record = tf_example_pb2.Example()
    record.features.feature["sound"].bytes_list.value.append(content)
    records = SimpleNamespace(__getitems__=lambda rows: [record.SerializeToString()])
    lazy = SimpleNamespace(_lazy_decode=True)
    assert StockSound(records, 0, "sound", lazy, 8000).read() == content


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"storry": Text()}, "letters has no feature 'storry'; nearest: 'story'; it has: animal, "),
        ({"story": Label(classes=2)}, "'story' of letters is a Text, not a class label"),
        ({"animal": Audio()}, "'animal' of letters is a ClassLabel, not a sound"),
        ({"story": Text(length=3)}, "letters, train 4, story: the text 'éab' has 4 bytes, more"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    prepare("letters", sizes={"train": 12, "test": 4}, channels=0, story=WORDS, animal=CLASSES)
    with pytest.raises(ValueError, match=message):
        TFDS(name="letters", columns=Named(columns)).features()


def test_a_data_set_without_pictures_says_its_columns():
    prepare("letters", sizes={"train": 12}, channels=0, story=WORDS, animal=CLASSES)
    assert stock.lacks_pictures("letters") == (
        'columns=Named(animal=Label(classes=3), story=Text(length=512, outside="cut"))'
    )
    prepare()
    assert stock.lacks_pictures("tiny_pictures") == ""
