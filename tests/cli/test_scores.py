"""`vqdit evaluate --samples`: sets of pictures, what is written, resumed and refused."""

import functools
import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vqdit.cli import given, picture_inputs
from vqdit.cli.main import main
from vqdit.data import Digits
from vqdit.evaluation import feature_networks, picture_sets
from vqdit.evaluation.extraction import Features, extract
from vqdit.evaluation.image_scores import frechet
from vqdit.evaluation.set_metrics import measure_sets
from vqdit.inference.generator import Generator

PIXELS = "--features=pixels"


@pytest.fixture(scope="module")
def digits():
    rows = Digits().split("train")
    return {name: rows.take(np.arange(400))[name] for name in ("image", "label")}


@pytest.fixture(scope="module")
def sets(tmp_path_factory, digits):
    """The same 40 pictures as a folder, as arrays, and other pictures of another folder."""
    place = tmp_path_factory.mktemp("sets")
    pictures, others = digits["image"][:40], digits["image"][40:90]
    for name, chosen in (("a", pictures), ("b", others)):
        (place / name).mkdir()
        for number, picture in enumerate(chosen):
            Image.fromarray(picture[..., 0]).save(place / name / f"{number:03}.png")
    colour = np.repeat(pictures, 3, axis=-1)
    np.savez(place / "adm.npz", colour, digits["label"][:40])
    np.savez_compressed(place / "small.npz", images=pictures)
    np.save(place / "array.npy", colour)
    (place / "sampled").mkdir()
    np.savez(place / "sampled/samples.npz", image=pictures, label=digits["label"][:40])
    Image.new("L", (99, 99)).save(place / "sampled/grid.png")
    rows = others.reshape(50, -1).repeat(3, axis=1) / 255.0
    np.savez(place / "statistics.npz", mu=rows.mean(axis=0), sigma=np.cov(rows.T))
    return place


@pytest.fixture
def there(sets, monkeypatch):
    monkeypatch.chdir(sets)
    return sets


def test_a_report_of_each_kind_of_set(there, tmp_path, capsys):
    found = []
    for name in ("a", "adm.npz", "small.npz", "array.npy", "sampled"):
        out = tmp_path / name
        metrics = "fd,kid,mmd,prdc" if name == "a" else "fd,prdc"
        args = [f"--samples={name}", "--reference=b", f"--metrics={metrics}", PIXELS]
        assert main(["evaluate", *args, f"--out={out}", "--batch-size=16"]) == 0
        found.append(json.loads((out / "report.json").read_text()))
    first = found[0]
    assert list(first["metrics"]) == ["fd", "kid", "mmd", *picture_inputs.GROUPS["prdc"]]
    for report in found[1:]:
        assert report["metrics"].items() <= first["metrics"].items()
        assert report["protocol"]["samples"]["pixels"] == first["protocol"]["samples"]["pixels"]
    protocol = first["protocol"]
    assert protocol["samples"]["count"] == 40 and protocol["reference"]["count"] == 50
    assert protocol["samples"]["size"] == "8x8" and protocol["features"]["name"] == "pixels"
    assert first["metrics"]["kid"]["settings"] == {"subsets": 100, "subset_size": 40}
    assert first["metrics"]["fd"]["low"] < first["metrics"]["fd"]["value"]
    page = (tmp_path / "a/report.md").read_text()
    assert f"| fd | {first['metrics']['fd']['value']:.5g} | [" in page
    assert "- reference.count: 50\n" in page and "50,000" not in page
    assert "40 examples are no more than the 192 features" in capsys.readouterr().out


def test_statistics_of_other_programs_give_the_distance_of_their_pictures(there, tmp_path):
    values = []
    for reference in ("b", "statistics.npz"):
        args = ["--samples=a", f"--reference={reference}", "--metrics=fd", PIXELS]
        assert main(["evaluate", *args, f"--out={tmp_path}"]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        values.append(report["metrics"]["fd"]["value"])
    assert values[0] == pytest.approx(values[1], rel=1e-5)  # features are float32
    said = report["protocol"]["reference"]["statistics"]
    assert said["network"] == "not stated by the file" and len(said["sha256"]) == 64
    assert "does not say which network" in report["warnings"][1]


def test_statistics_of_a_report_are_a_reference_for_the_same_features(there, tmp_path, refused):
    args = ["--samples=a", "--metrics=fd", f"--out={tmp_path}"]
    values = []
    for reference in ("b", tmp_path / "reference.npz"):
        assert main(["evaluate", *args, PIXELS, f"--reference={reference}"]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        values.append(report["metrics"]["fd"]["value"])
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert report["protocol"]["reference"]["statistics"]["network"] == "pixels none"
    (tmp_path / "f.py").write_text("def f(x):\n    return x.mean(axis=(1, 2)) / 255\n")
    other = f"--features={tmp_path}/f.py:f"
    message = refused("evaluate", *args, other, f"--reference={tmp_path}/reference.npz")
    assert "with the features 'pixels none', but --features names" in message
    assert message.endswith("; use the same features") and "f.py:f " in message


def test_sfid_compares_the_spatial_features_alone(there, tmp_path, monkeypatch, refused):
    def features(pictures):
        columns = pictures[..., 0].astype(np.float32).mean(axis=1)
        return pictures.mean(axis=(1, 2)).astype(np.float32), columns[:, :2], columns

    def inception(file, method, unknown_weights, spatial):
        assert (method, unknown_weights, spatial) == ("tensorflow", True, True)
        flags = {"is_inception": True, "has_classes": True, "has_spatial": True}
        return feature_networks.FeatureNetwork("inception", features, **flags)

    monkeypatch.setattr(feature_networks, "inception_network", inception)
    (tmp_path / "weights").write_bytes(b"")
    args = ["--samples=a", "--metrics=sfid,fid", f"--out={tmp_path / 'out'}"]
    how = [f"--features={tmp_path / 'weights'}", "--preprocessing=tensorflow", "--unknown-weights"]
    found = []
    for reference in ("b", tmp_path / "out/reference.npz"):
        assert main(["evaluate", *args, *how, f"--reference={reference}"]) == 0
        record = json.loads((tmp_path / "out/report.json").read_text())
        found.append([record["metrics"][name]["value"] for name in ("sfid", "fid")])
    pixels = [
        np.concatenate(list(picture_sets.read_folder(there / name).batches(np.arange(n), n)))
        for name, n in (("a", 40), ("b", 50))
    ]
    expected = [frechet(*(features(x)[part] for x in pixels)) for part in (2, 0)]
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-6)
    np.savez(tmp_path / "plain.npz", mu=np.zeros(3), sigma=np.eye(3))
    message = refused("evaluate", *args, *how, f"--reference={tmp_path}/plain.npz")
    assert "has only statistics, and not those of sfid, which needs the pictures" in message
    message = refused("evaluate", *args, PIXELS, "--reference=b")
    assert "needs the features of Inception, got the features pixels; measure fd" in message


def test_splits_sources_and_sizes(there, tmp_path):
    args = ["--samples=digits:validation", "--reference=digits", "--metrics=fd", PIXELS]
    assert main(["evaluate", *args, f"--out={tmp_path}", "--num=100"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["protocol"]["samples"]["kind"] == "validation split of Digits"
    assert report["protocol"]["samples"]["count"] == report["metrics"]["fd"]["count"] == 100
    assert report["protocol"]["reference"]["count"] == 1437
    small = picture_inputs.read_set("a", 6).pictures
    assert small.size == (6, 6) and small.resized == "centre crop and Lanczos to 6x6"
    assert picture_inputs.read_set("adm.npz", 6).pictures.resized == small.resized
    both = [picture_inputs.read_set(name, 6).pictures for name in ("a", "adm.npz")]
    first, second = (next(each.batches(np.arange(3), 5)) for each in both)
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(picture_inputs.read_set("digits:test", None).pictures.labels)) == 10


def test_two_reports_say_what_differs_before_they_are_compared(there, tmp_path, capsys):
    for name, args in {
        "x": ["--samples=a", "--reference=b", "--metrics=fd,kid"],
        "y": ["--samples=adm.npz", "--reference=b", "--metrics=fd"],
        "z": ["--samples=a", "--reference=b", "--metrics=fd,mmd", "--size=4"],
    }.items():
        assert main(["evaluate", *args, PIXELS, f"--out={tmp_path / name}"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--compare", f"{tmp_path}/x", f"{tmp_path}/y/report.json"]) == 0
    shown = capsys.readouterr().out
    assert "samples.path: a | adm.npz\n" in shown and "the protocols are equal\n" in shown
    assert "B - A = 0, within the intervals\n" in shown and "only in A: kid\n" in shown
    assert main(["evaluate", "--compare", f"{tmp_path}/x", f"{tmp_path}/z"]) == 0
    shown = capsys.readouterr().out
    assert "samples.size: 8x8 | 4x4\n" in shown and "features.width: 192 | 48\n" in shown
    before, _, after = shown.partition("the protocols differ, so the numbers below cannot be")
    assert "fd " not in before and "fd " in after


def test_a_killed_measurement_continues_and_a_finished_one_is_read(there, tmp_path):
    pictures = picture_inputs.read_set("a", None).pictures
    calls = []

    def function(batch, last=99):
        calls.append(len(batch))
        if len(calls) == last:
            raise KeyboardInterrupt
        return batch.reshape(len(batch), -1).astype(np.float32)

    def run(function, count=40):
        rows = np.arange(count)
        network = feature_networks.FeatureNetwork("mine", function)
        return extract(pictures, network, rows, tmp_path / "f", 16, lambda done, total: None)

    with pytest.raises(KeyboardInterrupt):
        run(lambda batch: function(batch, last=3))
    found = run(function)
    assert calls == [16, 16, 8, 8]  # the last batch was not finished
    whole = next(pictures.batches(np.arange(40), 40))
    np.testing.assert_array_equal(found.values, whole.reshape(40, -1))
    assert found.pixels == f"{picture_sets.fingerprint(whole):032x}"
    assert run(function).pixels == found.pixels and len(calls) == 4
    assert len(run(function, 20).values) == 20 and len(calls) == 6


def blurred(pictures):
    parts = [Image.fromarray(p[..., 0]).filter(ImageFilter.GaussianBlur(1)) for p in pictures]
    return np.stack([np.asarray(part) for part in parts])[..., None]


def test_each_metric_moves_as_pictures_get_worse(digits):
    """Equal sets, blur, a shift of brightness, dropped classes, copies; on digits."""
    images, labels = digits["image"], digits["label"]

    def features(pictures):
        return Features(pictures.reshape(len(pictures), -1) / np.float32(255.0), None, "")

    def of(pictures):
        names = ("fd", "kid", "mmd", *picture_inputs.GROUPS["prdc"])
        found = measure_sets(names, features(pictures), features(images[:200]))
        return {name: record["value"] for name, record in found.items()}

    same, fresh = of(images[:200]), of(images[200:])
    blur = of(blurred(images[200:]))
    bright = of(np.minimum(images[200:].astype(int) + 60, 255).astype(np.uint8))
    few = of(images[200:][labels[200:] < 3])
    copies = of(images[:10].repeat(20, axis=0))
    assert same["fd"] == pytest.approx(0, abs=1e-9) and same["mmd"] == pytest.approx(0, abs=1e-9)
    assert same["precision"] == same["recall"] == same["coverage"] == 1.0
    for worse in (blur, bright, few, copies):
        for name in ("fd", "kid", "mmd"):
            assert worse[name] > fresh[name] > same[name]
    assert blur["density"] < fresh["density"] and blur["coverage"] < fresh["coverage"]
    assert bright["precision"] < fresh["precision"]
    assert few["recall"] < fresh["recall"] and few["coverage"] < fresh["coverage"]
    assert copies["precision"] == 1.0 and copies["recall"] < 0.5 > copies["coverage"]


def test_a_recogniser_of_the_references_classes(there, tmp_path, refused):
    args = ["--samples=digits:test", "--metrics=fd,is", "--features=recogniser"]
    assert main(["evaluate", *args, "--reference=digits", f"--out={tmp_path}"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    note = report["protocol"]["features"]["note"]
    assert note.startswith("trained on 1294 pictures of digits; accuracy on 143 others 0.9")
    assert 6.0 < report["metrics"]["is"]["value"] < 10.0
    assert report["metrics"]["is"]["settings"] == {"splits": 10, "classes": 10}
    message = refused("evaluate", *args, "--reference=a")
    assert message.startswith("a recogniser needs classes, and a has none; name a folder with")


def test_a_function_of_ones_own(there, tmp_path, refused):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def means(pictures):\n    return pictures.mean(axis=(1, 2))[:, :2] + [[0.0, 1.0]]\n"
        "def broken(pictures):\n    return np.full((len(pictures), 2), np.nan)\n"
        "def flat(pictures):\n    return pictures.mean(axis=(1, 2, 3))\n"
    )
    args = ["--samples=a", "--reference=b", "--metrics=fd", f"--out={tmp_path}"]
    mine = f"--features={tmp_path}/mine.py"
    assert main(["evaluate", *args, f"{mine}:means"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["protocol"]["features"]["name"] == "mine.py:means"
    assert report["protocol"]["features"]["width"] == 2
    message = refused("evaluate", *args, f"{mine}:broken")
    assert message.startswith("the features of at least 40 examples are not finite, the first")
    message = refused("evaluate", *args, f"{mine}:flat")
    assert message == "the features of mine.py:flat must be [40, d] for 40 pictures, got [40]"
    assert refused("evaluate", *args, f"{mine}:none").startswith(
        "cannot import the function 'none' from"
    )


def test_a_run_is_sampled_and_continued(trained, tmp_path, monkeypatch, refused):
    args = [f"--workdir={trained}/runs", "--metrics=fd,kid", PIXELS, "--reference=digits:test"]
    args += ["--num=14", "--batch-size=8", f"--out={tmp_path}"]
    draw, calls = Generator.sample, []
    monkeypatch.setattr(given, "load_generator", functools.cache(given.load_generator))

    def sample(self, num, **options):
        if len(calls) == 1:
            calls.append(None)
            raise KeyboardInterrupt
        calls.append(options["given"]["label"])
        return draw(self, num, **options)

    monkeypatch.setattr(Generator, "sample", sample)
    assert main(["evaluate", *args]) == 130
    assert main(["evaluate", *args]) == 0
    np.testing.assert_array_equal(calls[0], np.arange(8))
    np.testing.assert_array_equal(calls[2][:6], np.arange(8, 14) % 10)
    assert len(calls) == 3
    report = json.loads((tmp_path / "report.json").read_text())
    samples = report["protocol"]["samples"]
    assert samples["run"] == f"{trained}/runs/generator" and samples["step"] == 6
    assert samples["labels"] == "label: 0 to 9 in turn" and samples["guidance"] == 1.5
    assert (samples["count"], samples["size"]) == (14, "8x8")
    stored = np.load(tmp_path / "samples/samples.npy")
    assert stored.shape == (14, 8, 8, 1) and len(np.unique(stored[8:], axis=0)) > 1
    message = refused("evaluate", f"--workdir={trained}/runs/tokenizer", *args[1:])
    assert "is the workdir of a tokenizer, which cannot generate" in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--samples=a"], "--metrics is missing; give --metrics=fd,kid,prdc; see --help"),
        (["--samples=a", "--metrics=fd"], "the metric fd needs a reference; give --reference=PATH"),
        (["--samples=a", "--metrics=fdd"], "unknown metric of pictures 'fdd'; did you mean fd?"),
        (["--reference=b", "--metrics=fd"], "--samples is missing; give --samples=PATH of"),
        (["--samples=a", "--metrics=fid", "--reference=b"], "the metric fid needs the features"),
        (["--samples=none", "--metrics=fd"], "no set of pictures none; name a folder, an .npz"),
        (["--samples=mixed", "--metrics=fd"], "pictures differ in size: mixed/a.png is 8x8 and"),
        (["--samples=empty", "--metrics=fd"], "empty has no pictures (.png, .jpg, ...); name a"),
        (
            ["--samples=float.npz", "--metrics=fd"],
            "'arr_0' in float.npz has the type float32, from",
        ),
        (
            ["--samples=first.npz", "--metrics=fd"],
            "'arr_0' in first.npz has the shape [4, 3, 8, 8]",
        ),
        (["--samples=other.npz", "--metrics=fd"], "other.npz has the arrays x; the array of pict"),
        (["--samples=cut.npz", "--metrics=fd"], "cut.npz is damaged: File is not a zip file;"),
        (["--samples=ones.npz", "--metrics=fd", "--reference=b"], "the first pictures of ones.npz"),
        (["--samples=statistics.npz", "--metrics=fd"], "statistics.npz has only statistics; --sam"),
        (["--samples=a", "--metrics=kid", "--reference=statistics.npz"], "statistics.npz has only"),
        (["--samples=a", "--metrics=fd", "--reference=two.npz"], "the statistics of the reference"),
        (
            ["--samples=a", "--metrics=fd", "--reference=named.npz"],
            "the statistics in named.npz were computed with",
        ),
        (
            ["--samples=a", "--metrics=fd", "--reference=odd.npz"],
            "the samples have 8x8 pixels, but the ",
        ),
        (
            ["--samples=a", "--metrics=prdc", "--reference=five.npz"],
            "the metric precision needs at least 6 pi",
        ),
        (
            ["--samples=a", "--metrics=fd", "--reference=b", "--num=41"],
            "--num=41, but a has only 40 pic",
        ),
        (
            ["--samples=a", "--metrics=fd", "--workdir=b"],
            "--samples are given, so --workdir is not",
        ),
        (
            ["--samples=a", "--metrics=fd", "--coherence"],
            "metrics of sets of pictures cannot be combined",
        ),
        (
            ["--samples=image_folder:a", "--metrics=fd"],
            "image_folder:a needs --size=N, the edge to",
        ),
        (["--compare", "a", "b"], "No such file or directory: a/report.json"),
    ],
)
def test_what_cannot_be_measured_is_refused(there, refused, args, message, tmp_path):
    ones = np.ones((9, 8, 8, 3), np.uint8)
    (there / "mixed").mkdir(exist_ok=True)
    (there / "empty").mkdir(exist_ok=True)
    Image.new("L", (8, 8)).save("mixed/a.png")
    Image.new("L", (8, 9)).save("mixed/b.png")
    np.savez("float.npz", ones.astype(np.float32))
    np.savez("first.npz", np.ones((4, 3, 8, 8), np.uint8))
    np.savez("other.npz", x=ones)
    np.savez("ones.npz", ones)
    np.savez("five.npz", 9 * ones[:5])
    np.savez("odd.npz", np.full((9, 8, 7, 3), 9, np.uint8))
    np.savez("two.npz", mu=np.zeros(2), sigma=np.eye(2))
    np.savez("named.npz", mu=np.zeros(192), sigma=np.eye(192), network="another")
    (there / "cut.npz").write_bytes(b"PK\3\4 and no more")
    rest = [] if "--compare" in args else [PIXELS, f"--out={tmp_path}"]
    is_named = any(arg.startswith(("--reference", "--compare")) for arg in args)
    rest += [] if is_named or "needs a reference" in message else ["--reference=b"]
    assert refused("evaluate", *args, *rest).startswith(message)


def test_copies_of_training_pictures_are_found_and_shown(there, digits, tmp_path, capsys):
    training, held_out, new = np.split(digits["image"][:340], [200, 320])
    which = np.asarray([150, 7, 31])
    samples = np.concatenate([new[:5], training[which], new[5:]])
    for name, pictures in (("training", training), ("new", held_out), ("mixed", samples)):
        np.save(tmp_path / f"{name}.npy", np.repeat(pictures, 3, axis=-1))
    args = [f"--samples={tmp_path}/mixed.npy", f"--reference={tmp_path}/training.npy", PIXELS]
    args += ["--metrics=fd,copies", f"--out={tmp_path}/out"]
    assert main(["evaluate", *args, f"--held-out={tmp_path}/new.npy"]) == 0
    assert "closest.png" in capsys.readouterr().out
    report = json.loads((tmp_path / "out/report.json").read_text())
    found = report["metrics"]["copies"]
    assert 3 / 23 <= found["value"] <= 4 / 23 and found["settings"]["held_out"] == 120
    assert report["protocol"]["held_out"]["count"] == 120
    pairs = [(pair["sample"], pair["nearest"], pair["distance"]) for pair in found["pairs"]]
    assert sorted(pairs[:3]) == [(5, 150, 0.0), (6, 7, 0.0), (7, 31, 0.0)] and len(pairs) == 16
    drawn = np.asarray(Image.open(tmp_path / "out/closest.png"))
    scale = drawn.shape[1] // (8 * 9 + 1)
    tiles = drawn[scale // 2 :: scale, scale // 2 :: scale, :3]  # one pixel of each, gaps included
    above, below = tiles[1:9, 1:9], tiles[10:18, 1:9]
    np.testing.assert_array_equal(above, below)
    np.testing.assert_array_equal(above[..., :1], samples[pairs[0][0]])


def test_copies_need_held_out_pictures(there, capsys):
    args = ["evaluate", "--samples=a", "--reference=b", PIXELS]
    for more, message in (
        (
            ["--metrics=copies"],
            "the metric copies needs pictures that were not used in training; give --held-out",
        ),
        (["--metrics=fd", "--held-out=b"], "--held-out is only used by the metric copies"),
        (["--metrics=copies", "--held-out=b"], "at least 100 held-out pictures, got 50"),
    ):
        assert main([*args, *more]) == 2
        assert message in capsys.readouterr().err
