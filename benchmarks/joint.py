"""Measures what joint training costs each modality, and how much unpaired data help.

    python -m benchmarks.joint --workdir=runs/quickstart --out=runs/joint_benchmark

The benchmark uses the tokenizers, network, optimizer and number of steps of a finished joint run.
It trains

- a DiT of images alone, and compares its samples with the joint model's by Frechet distance;
- for every ordered pair of modalities, a DiT that learns only this conditional distribution;
- the joint model again, without half of the audio, which is removed at random.

The recognisers of `vqdit evaluate` judge the samples of all of them, with 95 % intervals.
"""

import argparse
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.config import Experiment
from vqdit.data import Missing
from vqdit.evaluation.agreement import coherence
from vqdit.evaluation.evaluate import HELD_OUT, draw
from vqdit.evaluation.general_recognizers import fitting
from vqdit.evaluation.image_scores import MAX_FITTED, ImageFeatures, frechet
from vqdit.inference.generator import Generator
from vqdit.inference.loading import load, resolver
from vqdit.processes import Conditional, Independent
from vqdit.runs import logs, workdir
from vqdit.train.loop import train
from vqdit.typing import Named


def variant(joint: Experiment, names: Sequence[str], times: Any) -> Experiment:
    """Returns the experiment with only the named targets and another joint time distribution."""
    task = joint.task
    targets = Named({name: task.targets[name] for name in names})
    return dataclasses.replace(
        joint, task=dataclasses.replace(task, targets=targets, joint=times, tokenizers=Named())
    )


def variants(joint: Experiment, names: Sequence[str], missing: str) -> dict[str, Experiment]:
    """Returns the experiments to train, by name."""
    found = {"image": variant(joint, ["image"], Independent())}
    for given, want in itertools.permutations(names, 2):
        found[f"{given}-{want}"] = variant(joint, [given, want], Conditional(given=(given,)))
    data = dataclasses.replace(joint.data, source=Missing(source=joint.data.source, column=missing))
    return found | {f"half_of_{missing}": dataclasses.replace(joint, data=data)}


def siblings(folder: Path) -> dict[str, Path]:
    """Returns the workdirs beside that of a run, which hold its tokenizers."""
    return {path.parent.name: path.parent for path in folder.parent.glob("*/config.json")}


class Bench:
    """A joint run, its unpacked data, and its recognisers."""

    def __init__(self, folder: Path, num: int) -> None:
        self.run, self.num = workdir.find_run(folder), num
        self.experiment = workdir.read_experiment(self.run)
        model = load(self.run)
        if not isinstance(model, Generator):
            raise SystemExit(f"{folder} holds no generator")
        self.model, source = model, self.experiment.data.source
        fit = fitting(model, source).fit
        self.names = [name for name in ("text", "audio", "image") if name in model.task.targets]
        self.train = self._values(draw(source, ("train",), MAX_FITTED))
        self.held_out = self._values(draw(source, HELD_OUT, num))
        self.recognizers = {name: fit[name](self.train) for name in self.names}
        self.features = ImageFeatures(self.train["image"], self.train["label"])

    def _values(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = {name: self.model.modality(name).unpack(stored[name]) for name in self.names}
        return {**values, "label": stored["label"]}

    def generator(self, name: str, experiment: Experiment, out: Path) -> Generator:
        """Trains a variant, or resumes its run, and loads it."""
        folder = out / name
        outcome = train(experiment, folder, resolver(siblings(self.run)))
        if outcome.exit_code:
            raise SystemExit(outcome.exit_code)
        model = load(folder)
        if not isinstance(model, Generator):
            raise SystemExit(f"{folder} holds no generator")
        return model

    def pair(self, model: Generator, given: str, want: str) -> dict[str, Any]:
        """Returns how often a generated value has the class of the given value."""
        samples = model.sample(self.num, given={given: self.held_out[given]}, want=[want])
        asked = self.held_out["label"][np.arange(self.num) % len(self.held_out["label"])]
        return coherence(self.recognizers[want].predict(samples[want]), asked)._asdict()

    def distance(self, model: Generator) -> float:
        """Returns the Frechet distance of unconditional images to held-out images."""
        images = model.sample(self.num, guidance=1.0)["image"]
        return frechet(self.features(images), self.features(self.held_out["image"]))

    def pairs(self, model: Generator) -> dict[str, Any]:
        """Returns `pair` of every ordered pair."""
        return {
            f"{g}>{w}": self.pair(model, g, w) for g, w in itertools.permutations(self.names, 2)
        }


def measure(folder: Path, out: Path, num: int, missing: str) -> dict[str, Any]:
    """Trains and evaluates all variants, which the module describes."""
    bench = Bench(folder, num)
    floor = frechet(bench.features(bench.train["image"]), bench.features(bench.held_out["image"]))
    record: dict[str, Any] = {
        "samples": num,
        "joint": bench.pairs(bench.model),
        "frechet": {"joint": bench.distance(bench.model), "training pictures": floor},
        "alone": {},
    }
    for name, experiment in variants(bench.experiment, bench.names, missing).items():
        model = bench.generator(name, experiment, out)
        if name == "image":
            record["frechet"]["image alone"] = bench.distance(model)
        elif name == f"half_of_{missing}":
            record[name] = bench.pairs(model)
        else:
            given, _, want = name.partition("-")
            record["alone"][f"{given}>{want}"] = bench.pair(model, given, want)
        (out / "joint.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def main() -> None:
    """Prints the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--missing", default="audio")
    args = parser.parse_args()
    logs.to_terminal()
    args.out.mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure(args.workdir, args.out, args.num, args.missing), indent=2))


if __name__ == "__main__":
    main()
