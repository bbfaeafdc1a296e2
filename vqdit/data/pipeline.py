"""The data pipeline, which makes batches from a source with Grain.

The batch of step n is a pure function of (seed, n): Grain reshuffles the row numbers in every epoch
and batches them, and each process takes its rows of the global batch. A run therefore resumes
without saved iterator state and sees the same global batches on any number of processes.
"""

import functools
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from vqdit.data import workers
from vqdit.data.augment import Augmentation, Pair, Pixels
from vqdit.data.augment_sounds import SoundAugmentation, change_sounds, check_sounds
from vqdit.data.batch import GIVEN, Batch
from vqdit.data.buckets import MOST, Batches, Buckets
from vqdit.data.digits import Digits
from vqdit.data.mixture import Joined
from vqdit.data.sources import MIRRORED, PRESENT, Arrays, Feature, Source, Split, take
from vqdit.data.text_stream import document_numbers
from vqdit.ragged import padded
from vqdit.typing import Component, Named, resumable

AHEAD = 4
"""Number of batches that are prepared ahead of the training step."""


class Data(Component):
    """The data of a run.

    Attributes:
        source: the examples.
        augment: augmentations of the pictures and sounds of training examples, applied one after
            the other. All pictures of an example get the same change, such as those before and
            after an edit.
        augment_given: augmentations of a second view of each picture, `NAME_given`. A DiT sees this
            view where the picture is a condition. Conditions are thus augmented, but not the
            pictures that the DiT learns to generate.
        batch_size: number of examples in a global batch, over all devices and processes.
        buckets: maximum number of different padded lengths, if examples differ in length. A step is
            compiled for each. 1 pads every batch to the longest possible example.
        workers: number of processes that decode and augment; 0 uses threads of this process.
    """

    source: Source = Digits()
    augment: tuple[Augmentation, ...] = ()
    augment_given: tuple[Augmentation, ...] = ()
    batch_size: int = 128
    buckets: int = 1
    workers: int = resumable(0)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"Data needs batch_size >= 1, got {self.batch_size}")
        self.require(f"buckets from 1 to {MOST}", 1 <= self.buckets <= MOST)
        if not 0 <= self.workers <= workers.MOST:
            raise ValueError(f"Data needs workers from 0 to {workers.MOST}, got {self.workers}")

    def announced(self) -> Named[Feature]:
        """Returns the features that are known without preparing the data."""
        return self.source.announced()

    def features(self) -> Named[Feature]:
        """Returns the feature of every column."""
        return self.source.features()

    def check(self) -> None:
        """Checks the data before a run starts, so that it does not fail hours later.

        Raises:
            ValueError: if there are too few examples for a batch, or encoded pictures have an
                augmentation that changes pixels.
            OSError: if the training or validation data are missing.
        """
        every = (*self.augment, *self.augment_given)
        if any(isinstance(one, SoundAugmentation) for one in every):
            check_sounds(self.augment, self.augment_given, self.features())
        changing = [
            one for one in every if not one.mirrors and not isinstance(one, SoundAugmentation)
        ]
        if changing:
            found = self.source.split("train").take(np.arange(1))
            encoded = [name for name in self.features() if name + MIRRORED in found]
            if encoded:
                raise ValueError(
                    f"{type(changing[0]).__name__} changes pixels, but the data have only tokens "
                    f"of {encoded[0]!r}; use HorizontalFlip, or train from the pictures"
                )
        count, _ = len(self.source.split("train")), self.source.split("validation")
        if count < self.batch_size:
            raise ValueError(
                f"the training split has {count} examples, fewer than the batch_size "
                f"{self.batch_size}; use a smaller batch_size or more data"
            )

    def train_batches(
        self, seed: int, start: int, *, process_index: int = 0, process_count: int = 1
    ) -> Generator[Batch]:
        """Yields this process's rows of the global batches of steps start, start + 1, and so on.

        Args:
            seed: seed of the order and of the augmentation.
            start: the first step.
            process_index: index of this process.
            process_count: number of processes; must divide the batch size. Each process takes the
                same number of contiguous rows of the global batch.

        Returns:
            A generator; close it to stop its threads.
        """
        import grain

        split, size = self.source.split("train"), self._rows(process_count)
        rows = slice(process_index * size, (process_index + 1) * size)
        augment = (self.augment, self.augment_given)
        sizes = self._sizes("train")
        batches = self._batches(seed, sizes) if sizes and len(sizes.each) > 1 else None
        assemble = _Assemble(split, self.features(), augment, seed, rows, sizes, batches)
        passed = None
        if self.workers:
            found = self.features().values()
            example = sum(int(np.prod(one.shape)) * one.stored.itemsize for one in found)
            workers.check(self.workers, size * example)
            passed = workers.Passed(assemble) if hasattr(os, "memfd_create") else None
        # The order is endless; without drop_remainder, Grain's length would overflow an integer.
        order = _order(split, seed).batch(self.batch_size, drop_remainder=True)
        steps = order.map_with_index(passed or assemble)
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=AHEAD)
        dataset = steps[start:].to_iter_dataset(options)
        if self.workers:
            _parse_flags()
            how = grain.MultiprocessingOptions(
                num_workers=self.workers, per_worker_buffer_size=workers.BUFFER
            )
            dataset = dataset.mp_prefetch(how, workers.begin)
        iterator = iter(dataset)
        try:
            with workers.reported():
                yield from iterator
        finally:
            iterator.close()
            if passed:
                passed.close()

    def train_rows(self, seed: int, step: int) -> np.ndarray:
        """Returns the rows of the training split that form the global batch of a step."""
        return np.asarray(self._batches(seed, self._sizes("train"))[step])

    def first_batch(self, seed: int) -> Batch:
        """Returns the whole global batch of step 0."""
        with closing(self.train_batches(seed, 0)) as batches:
            return next(batches)

    def split_batches(
        self, split: str, *, process_index: int = 0, process_count: int = 1
    ) -> Iterator[Batch]:
        """Yields a split once, in order; rows that pad the last batch are not `valid`."""
        examples, features = self.source.split(split), self.features()
        size = self._rows(process_count)
        sizes = self._sizes(split)
        for start in range(0, len(examples), self.batch_size):
            index = start + process_index * size + np.arange(size)
            valid = index < len(examples)
            arrays = take(examples, np.where(valid, index, 0), features)
            whole = np.arange(start, min(start + self.batch_size, len(examples)))
            yield _batch(arrays, features, index, valid, sizes and sizes.of(whole))

    def _batches(self, seed: int, sizes: "_Sizes | None") -> Any:
        """Returns the row numbers of the global batch of every step."""
        order = _order(self.source.split("train"), seed)
        if sizes is None or len(sizes.each) == 1:
            # Endless; without drop_remainder, Grain's length would overflow an integer.
            return order.batch(self.batch_size, drop_remainder=True)
        return Batches(order, sizes.bucket, self.batch_size, seed)

    def _sizes(self, split: str) -> "_Sizes | None":
        """Returns the padded lengths of the batches of a split; None if no column is ragged."""
        buckets = _buckets(self)
        return buckets and _Sizes(buckets.sizes, buckets.of(self.source.split(split)))

    def _rows(self, process_count: int) -> int:
        if self.batch_size % process_count:
            raise ValueError(
                f"batch_size {self.batch_size} is not divisible by {process_count} processes; use "
                f"a multiple of {process_count}"
            )
        return self.batch_size // process_count


class _Sizes(NamedTuple):
    """Padded lengths of ragged columns for each bucket, and the bucket of each row of a split."""

    each: list[dict[str, int]]
    bucket: np.ndarray

    def of(self, rows: np.ndarray) -> dict[str, int]:
        """Returns the padded lengths of a global batch."""
        return self.each[self.bucket[rows].max()]


@functools.lru_cache(maxsize=16)
def _buckets(data: Data) -> Buckets | None:
    features = data.features()
    if not any(feature.ragged for feature in features.values()):
        return None
    return Buckets(data.source.split("train"), features, data.buckets)


class _Assemble:
    """Makes the batch of a step from its row numbers; a class, so that workers can unpickle it."""

    def __init__(
        self,
        split: Split,
        features: Named[Feature],
        augment: tuple[tuple[Augmentation, ...], tuple[Augmentation, ...]],
        seed: int,
        rows: slice,
        sizes: _Sizes | None,
        batches: Batches | None,
    ) -> None:
        self._split, self._features, self._augment = split, features, augment
        self._seed, self._rows = seed, rows
        self._sizes, self._batches = sizes, batches

    def __call__(self, step: int, order: np.ndarray) -> Batch:
        order = order if self._batches is None else self._batches[step]
        index = np.arange(len(order))[self._rows]
        arrays = take(self._split, order[self._rows], self._features)
        lengths = self._sizes and self._sizes.of(order)
        always, given = self._augment
        sounding = [one for one in always if isinstance(one, SoundAugmentation)]
        if sounding:
            always = tuple(one for one in always if not isinstance(one, SoundAugmentation))
            draws = (self._seed, step, index)
            changed = change_sounds(self._split, self._features, arrays, sounding, draws, lengths)
            arrays, lengths = changed
        batch = _batch(arrays, self._features, index, np.ones(len(index), bool), lengths)
        pictures = {}
        if not (always or given):
            return batch
        for name, feature in self._features.items():
            views = list(arrays[name])
            if name + MIRRORED in arrays:
                views = list(zip(views, arrays[name + MIRRORED], strict=True))
            elif not feature.is_picture:
                continue
            if always:
                views = self._changed(views, always, step, index)
                pictures[name] = _first(views)
            if given:
                again = self._changed(views, given, step, index + 2**32)
                pictures[name + GIVEN] = _first(again)
        return batch._replace(data=batch.data | pictures)

    def _changed(
        self,
        views: "list[Pixels] | list[Pair]",
        augmentations: tuple[Augmentation, ...],
        step: int,
        rows: np.ndarray,
    ) -> list[Any]:
        """Augments the views of one column; every column gets the same random draws."""
        changed = []
        for view, row in zip(views, rows, strict=True):
            generator = np.random.Generator(np.random.Philox([self._seed, step, int(row)]))
            for augmentation in augmentations:
                if isinstance(view, tuple):
                    view = augmentation.exchange(view, generator)
                else:
                    view = augmentation.apply(view, generator)
            changed.append(view)
        return changed


def _first(views: "list[Pixels] | list[Pair]") -> np.ndarray:
    """Stacks images, or the first tokens of each pair of tokens."""
    return np.stack([view[0] if isinstance(view, tuple) else view for view in views])


def _order(split: Split, seed: int) -> Any:
    """Returns endless row numbers, shuffled anew in every epoch; mixtures follow their weights."""
    import grain

    if not isinstance(split, Joined):
        return grain.MapDataset.range(len(split)).seed(seed).shuffle().repeat()
    starts = np.cumsum([0, *split.sizes])
    ranges = [
        grain.MapDataset.range(int(start), int(start) + size).seed(seed + number).shuffle().repeat()
        for number, (start, size) in enumerate(zip(starts, split.sizes, strict=False))
    ]
    return grain.MapDataset.select_from_datasets(ranges, split.shares)  # pyright: ignore


def _batch(
    arrays: Arrays,
    features: Named[Feature],
    index: np.ndarray,
    valid: np.ndarray,
    lengths: Mapping[str, int] | None,
) -> Batch:
    data, mask = {name: arrays[name] for name in features}, {}
    for name, length in (lengths or {}).items():
        data[name], mask[name] = padded(arrays[name], length)
    present = {name: arrays[PRESENT + name] & valid for name in features}
    packed: Any = {
        n: document_numbers(data[n]) for n, feature in features.items() if feature.packed
    }
    parts: Any = (Named(data), Named(present), Named(mask), index.astype(np.int32), valid)
    # A batch has NumPy arrays, which the training loop moves to the devices.
    return Batch(*parts, documents=Named(packed))


def _parse_flags() -> None:
    """Marks absl flags as parsed, which Grain's worker processes require."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
