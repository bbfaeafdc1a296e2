"""The base class of quantizers that apply another quantizer."""

import dataclasses
from typing import TypeVar

from vqdit.quantizers.base import Quantizer
from vqdit.quantizers.vq import VQ
from vqdit.typing import Named

T = TypeVar("T", bound="Wrapper")


class Wrapper(Quantizer):
    """A quantizer that applies another quantizer, and has the losses and `start` of that one.

    Attributes:
        quantizer: the other quantizer.
    """

    quantizer: Quantizer = VQ()

    @property
    def weights(self) -> Named[float]:
        return self.quantizer.weights

    @property
    def start(self) -> int:
        return self.quantizer.start

    def started(self: T) -> T:
        return dataclasses.replace(self, quantizer=self.quantizer.started())
