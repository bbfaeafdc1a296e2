"""The batch that the pipeline passes to a training step."""

from typing import NamedTuple

from vqdit.typing import Array, Bool, Float, Int, Named

GIVEN = "_given"
"""Suffix of a modality's second view. A DiT sees this view where the modality is given."""


class Batch(NamedTuple):
    """A batch of b examples.

    Attributes:
        data: stored array of every modality, such as uint8 images; zeros where the modality is
            missing. The second view of a modality, if there is one, has the suffix GIVEN.
        present: for every modality, bool [b], True where the example has the modality.
        mask: for modalities of variable length, bool [b, n], True at the positions of the stored
            example, and False at the padding after its end.
        index: row of each example: in the global batch in training, in the split in evaluation. The
            random key of an example is derived from the step and this index.
        valid: False for rows that only pad the last batch of an evaluation.
        size: size of the global batch if this batch is a part of one, else None.
        shares: if this batch is a part of a batch: for each mean in the loss, keyed by name, the
            number of its values divided by the average of this number over the parts.
        documents: for packed modalities, the number of the document at every position; -1 where
            there is none. Attention and losses do not cross documents.
    """

    data: Named[Array]
    present: Named[Bool[Array, " b"]]
    mask: Named[Bool[Array, "b _"]]
    index: Int[Array, " b"]
    valid: Bool[Array, " b"]
    size: int | None = None
    documents: Named[Int[Array, "b _"]] = Named()
    shares: Named[Float[Array, ""]] = Named()

    def weighted(self, name: str, mean: Float[Array, ""]) -> Float[Array, ""]:
        """Returns a mean of this part times its share.

        The average of the results over the parts is the mean of the batch.

        Args:
            name: name of the mean in `shares`.
            mean: the mean over the values of this part.
        """
        return self.shares[name] * mean if name in self.shares else mean
