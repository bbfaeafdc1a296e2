"""Masked diffusion over the q codes of a residual quantizer, the coarse codes before the fine ones.

Every codebook l = 0 (the coarsest), ..., q - 1 has a part [a_l, b_l] of [0, 1] in which its codes
become masked. Its own time t_l goes from 0 to 1 in this part,

    t_l = clip((t - a_l) / (b_l - a_l), 0, 1),        p(mask) = m(t_l),

with m and all formulas of `Masked`. The parts are disjoint, and the parts of fine codes are nearest
to t = 0. In sampling, t falls from 1 to 0, so all coarse codes are revealed before the finer codes,
which depend on them. In training, one codebook at a time is partly masked. Borsos et al.,
"SoundStorm", arXiv:2305.09636, section 3.2, and Ziv et al., "MAGNeT", arXiv:2401.04577, generate in
this order.

The length of the part of codebook l is proportional to 1 / (l + 1), so that a sampler takes most of
its steps for the coarse codes, on which all others depend. MAGNeT gives the first of four codebooks
40 %.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from vqdit.processes.base import Codes, Loss, Noise, Prediction, Share, Time, Values, X
from vqdit.processes.categorical import Logits
from vqdit.processes.masked import Masked
from vqdit.typing import Array, Float


class CoarseToFine(Masked):
    """Masked diffusion that reveals one codebook after the other.

    Attributes:
        codebooks: number q of codebooks; set by the task.
    """

    codebooks: int = 0

    def bind(self, space: tuple[int, ...]) -> "CoarseToFine":
        return dataclasses.replace(self, codebooks=len(space))

    def parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns beginning and end of each codebook's part of the time: float32 [q] each."""
        if self.codebooks < 1:
            raise ValueError("CoarseToFine needs codebooks >= 1, got 0; use process.bind(sizes)")
        shares = 1.0 / np.arange(1, self.codebooks + 1)
        ends = np.cumsum(shares[::-1])[::-1] / np.sum(shares)
        return np.append(ends[1:], 0.0).astype(np.float32), ends.astype(np.float32)

    def code_times(self, t: Values) -> Float[Array, "*b q"]:
        begin, end = self.parts()
        return jnp.clip((t[..., None] - begin) / (end - begin), 0.0, 1.0)

    def noise_share(self, t: Values) -> Values:
        return jnp.mean(self.scheduled(self.code_times(t)), axis=-1)

    def time_at(self, share: Values) -> Values:
        begin, end = (jnp.asarray(part) for part in self.parts())
        masked = jnp.clip(share, 0.0, 1.0) * self.codebooks
        whole = jnp.minimum(jnp.floor(masked), self.codebooks - 1)  # codebooks without any code
        level = (self.codebooks - 1 - whole).astype(jnp.int32)
        return begin[level] + (end - begin)[level] * super().time_at(masked - whole)

    def time_seen(self, t: Share, open_share: Share, noise: Share | float = 0.0) -> Share:
        """Returns t, which tells the network the current codebook; 0 if all codes are known."""
        return jnp.where(open_share + noise > 0.0, t, 0.0)

    def loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        if self.weighting == "elbo":
            return self.scoring_loss(prediction, x_0, x_t, noise, t)
        return jnp.sum(self._in_part(t) * self.surprise(prediction, x_0, x_t), axis=-1)

    def scoring_loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        del noise
        begin, end = self.parts()
        weight = self._in_part(t) * self.rate(self.code_times(t)) / (end - begin)
        return jnp.sum(weight * self.surprise(prediction, x_0, x_t), axis=-1)

    def posterior(
        self, logits: Logits, x_t: Codes, t: Float[Array, "*#b"], s: Float[Array, "*#b"]
    ) -> Float[Array, "b l q m"]:
        t, s = self.code_times(t[..., 0]), self.code_times(s[..., 0])
        return super().posterior(logits, x_t, t, s)

    def _in_part(self, t: Time) -> Float[Array, "b #l q"]:
        """Returns 1 for the codebook in whose part t is, and 0 for all others."""
        begin, end = self.parts()
        return ((t[..., None] > begin) & (t[..., None] <= end)).astype(jnp.float32)
