"""Training a VQ-VAE tokenizer: encoder, codebook and decoder jointly.

    L = |x - D(z_q)|  +  beta |z - sg(z_q)|^2,        z = E(x),  z_q = codebook(z).

van den Oord et al., "Neural Discrete Representation Learning", arXiv:1711.00937, eq. 3; the
codebook term is replaced by the quantizer's own update.
"""

from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.losses import l1, l2
from vqdit.metrics import CodeUse, Mean, Metrics, psnr
from vqdit.modalities import Image, Modality
from vqdit.modalities.image import grid as tile
from vqdit.modalities.image import save
from vqdit.models.autoencoder import ConvAutoencoder
from vqdit.quantizers import VQ, Quantizer
from vqdit.random import stream
from vqdit.tasks.base import Aux, Frozen, Task
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class TokenizerTask(Task):
    """A VQ-VAE of one modality.

    Attributes:
        name: which column of the data is tokenized.
        modality: what that column is.
        model: encoder and decoder.
        quantizer: the codebook; its `dim` is the latents' width.
        reconstruction: "l1" (sharper) or "l2" (best PSNR), per element of standardised data.
        weights: weight of each of the quantizer's losses.
    """

    name: str = "image"
    modality: Modality = Image()
    model: ConvAutoencoder = ConvAutoencoder()
    quantizer: Quantizer = VQ()
    reconstruction: Literal["l1", "l2"] = "l2"
    weights: Named[float] = Named(commitment=0.25)

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions of the codes along each axis."""
        return self.model.grid(self.modality.shape[:-1])

    def check(self, features: Named[Feature]) -> None:
        _ = self.grid  # sizes that do not divide
        require(features, self.name, self.modality.shape)

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        del frozen
        return self._init(key, batch.data[self.name])

    def blank(self) -> tuple[Params, Stats]:
        """Returns parameters and statistics of the right structure: for `jax.eval_shape`."""
        return self._init(jax.random.key(0), jnp.zeros((1, *self.modality.shape), jnp.uint8))

    def _init(self, key: Key[Array, ""], raw: Array) -> tuple[Params, Stats]:
        x = self.modality.standardize(raw)
        params = self.model.init(stream(key, "model"), x, self.quantizer.dim)
        z = self.model.encode(params, x, self.quantizer.dim)
        params["quantizer"], stats = self.quantizer.init(stream(key, "quantizer"), z)
        return params, stats

    def loss(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Aux]:
        del frozen
        x = self.modality.standardize(batch.data[self.name])
        valid = batch.valid & batch.present[self.name]
        z = self.model.encode(params, x, self.quantizer.dim)
        mask = _at_positions(valid, z)
        quantized = self.quantizer.quantize(
            params["quantizer"], stats, z, key=stream(key, "quantize"), step=step, mask=mask
        )
        y = self.model.decode(params, quantized.z_q, x.shape[-1])
        error = (l1 if self.reconstruction == "l1" else l2)(x, y)
        reconstruction = jnp.sum(jnp.where(valid, error, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
        loss = reconstruction
        for name, value in quantized.losses.items():
            loss = loss + self.weights[name] * value
        metrics = Named({"reconstruction": reconstruction, **quantized.losses})
        return loss, Aux(metrics, (z, quantized.codes, mask))

    def update(
        self, params: Params, stats: Stats, aux: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        z, codes, mask = aux
        learned, stats = self.quantizer.update(
            params["quantizer"], stats, z, codes, key, step, mask=mask
        )
        return {**params, "quantizer": learned}, stats

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        del frozen, key
        x = self.modality.standardize(batch.data[self.name])
        valid = batch.valid & batch.present[self.name]
        z = self.model.encode(params, x, self.quantizer.dim)
        mask = _at_positions(valid, z)
        quantized = self.quantizer.quantize(params["quantizer"], stats, z, mask=mask)
        y = self.model.decode(params, quantized.z_q, x.shape[-1])
        error = jnp.mean((z - quantized.z_q) ** 2, axis=tuple(range(1, z.ndim)))
        sizes = self.quantizer.codebook_sizes
        return Named(
            l1=Mean.of(l1(x, y), valid),
            l2=Mean.of(l2(x, y), valid),
            psnr=Mean.of(psnr(x, y), valid),
            quantization_error=Mean.of(error, valid),
            codebook=CodeUse.of(quantized.codes, max(sizes), valid),
        )

    def encode(self, params: Params, stats: Stats, raw: Array) -> Int[Array, "b *grid q"]:
        """Returns the codes of stored examples."""
        z = self.model.encode(params, self.modality.standardize(raw), self.quantizer.dim)
        return self.quantizer.quantize(params["quantizer"], stats, z).codes

    def lookup(
        self, params: Params, stats: Stats, codes: Int[Array, "b *grid q"]
    ) -> Float[Array, "b *grid d"]:
        """Returns the embeddings z_q of codes."""
        return self.quantizer.lookup(params["quantizer"], stats, codes)

    def decode(self, params: Params, stats: Stats, codes: Int[Array, "b *grid q"]) -> Array:
        """Returns stored examples from codes."""
        z_q = self.lookup(params, stats, codes)
        return self.modality.restore(self.model.decode(params, z_q, self.modality.shape[-1]))

    def decode_latents(self, params: Params, stats: Stats, z: Float[Array, "b *grid d"]) -> Array:
        """Returns stored examples from generated latents, each snapped to its nearest code."""
        return self.decode(
            params, stats, self.quantizer.quantize(params["quantizer"], stats, z).codes
        )

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        del frozen, key
        raw = batch.data[self.name][:16]
        return Named(
            original=raw, result=self.decode(params, stats, self.encode(params, stats, raw))
        )

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        file = path.with_suffix(".png")
        save(file, side_by_side(preview["original"], preview["result"]))
        return file


def side_by_side(originals: np.ndarray, results: np.ndarray, columns: int = 8) -> np.ndarray:
    """Tiles uint8 images so that each row of originals stands above its reconstructions."""
    columns = min(columns, len(originals))
    rows = []
    for start in range(0, len(originals), columns):
        for images in (originals, results):
            row = images[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), 127, np.uint8)
            rows.append(np.concatenate([row, blank]))
    return tile(np.concatenate(rows), columns)


def require(features: Named[Feature], name: str, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the data have that column with that shape."""
    if name not in features:
        raise ValueError(f"the data have no {name!r}; they have: {', '.join(features)}")
    if features[name].shape != shape:
        raise ValueError(
            f"{name!r} in the data has shape {features[name].shape}, the config says {shape}; "
            "change the modality's size and channels, or the size of the data source"
        )


def _at_positions(valid: Bool[Array, " b"], z: Float[Array, "b *grid d"]) -> Bool[Array, "b *grid"]:
    return jnp.broadcast_to(valid.reshape(-1, *(1,) * (z.ndim - 2)), z.shape[:-1])
