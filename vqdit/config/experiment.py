"""An experiment: everything that decides what a run does, in one frozen dataclass."""

from typing import Any, Literal

from vqdit.data import Data
from vqdit.optim.ema import Averaging, PosthocEMA
from vqdit.optim.optimizers import AdamW, Optimizer
from vqdit.parallel import Mesh, check_batch
from vqdit.tasks.base import Task
from vqdit.tasks.tokenizer import TokenizerTask
from vqdit.typing import Component, resumable


class NonFinite(Component):
    """What follows a step whose loss or gradient is not finite. The step itself is skipped.

    Attributes:
        policy: "skip" goes on, and ends the run after `limit` such steps in a row; "abort" ends it
            at the first; "rollback" goes back, after `limit` in a row, to the last checkpoint
            before them, and on from there with the data that come after them.
        limit: skipped steps in a row that are too many.
        rollbacks: how often "rollback" goes back before it ends the run.
    """

    policy: Literal["skip", "abort", "rollback"] = "skip"
    limit: int = 10
    rollbacks: int = 3

    def __post_init__(self) -> None:
        if self.limit < 1 or self.rollbacks < 1:
            raise ValueError(
                f"NonFinite needs limit and rollbacks >= 1, got {self.limit} and {self.rollbacks}"
            )


class Timeouts(Component):
    """Seconds without progress after which a run is ended, with code 124; 0 never ends it.

    Attributes:
        start: until the first step begins: data, frozen arrays, the state.
        compile: the first step.
        step: every other one, with the wait for its data.
        evaluate: each batch of an evaluation, each preview, each save.
    """

    start: float = 1800.0
    compile: float = 3600.0
    step: float = 1800.0
    evaluate: float = 1800.0

    def __post_init__(self) -> None:
        for field in ("start", "compile", "step", "evaluate"):
            if getattr(self, field) < 0:
                raise ValueError(
                    f"Timeouts needs {field} >= 0 seconds, got {getattr(self, field)}; 0 is none"
                )


class Profile(Component):
    """Steps of which `WORKDIR/profile` keeps a trace, for xprof or Perfetto.

    Attributes:
        start: number of the first one, from 1; that one compiles, and makes a large trace.
        steps: how many; 0 traces none.
    """

    start: int = 10
    steps: int = 0

    def __post_init__(self) -> None:
        if self.start < 1 or self.steps < 0:
            raise ValueError(
                f"Profile needs start >= 1 and steps >= 0, got {self.start} and {self.steps}"
            )


class Experiment(Component):
    """One training run.

    Attributes:
        task: what is trained.
        data: what it is trained on, and the global batch size.
        optimizer: how.
        ema: decay of the averaged parameters that evaluation and sampling use; 0 averages none.
        ema_warmup: whether they soon forget the first steps; False keeps the decay constant.
        posthoc: further averages, from which one of any width is made after training.
        mesh: how the devices are arranged.
        accumulate: parts of a batch that are taken one after the other, to save memory (not on a
            CPU, where it serves to try what runs elsewhere); the step
            is that of the whole batch. Where examples lack a modality, each part has a mean of its
            own, and what an adversary and the metrics say is a mean over the parts.
        steps: length of the run.
        seed: of everything random.
        init_from: workdir of a finished run to start from, for fine-tuning; empty starts afresh.
        log_every: steps between lines of metrics.
        log_to: what shows them too: "tensorboard" (files in the workdir) and "wandb" (Weights &
            Biases), each an extra to install.
        evaluate_every: steps between evaluations over the validation split; 0: only at the end.
        preview_every: steps between previews; 0: only at the end.
        checkpoint_every: steps between checkpoints; 0: only at the end (and when interrupted).
        keep: how many of the last checkpoints stay.
        keep_every: those of a step that is a multiple of it stay too; 0: none do for that.
        keep_best: the one with the highest value of this validation metric, such as "psnr", stays
            too, "-l1" the one with the lowest; of those at whose step there was an evaluation.
        failed_save: what follows a checkpoint or a preview that cannot be written, as on a full
            disk: "continue" says so and goes on, "stop" ends the run; the last ones always do.
        nonfinite: what follows a step that is not finite.
        timeouts: after which a run that hangs is ended.
        profile: steps that are traced.
    """

    task: Task = TokenizerTask()
    data: Data = Data()
    optimizer: Optimizer = AdamW()
    ema: float = 0.0
    ema_warmup: bool = True
    posthoc: PosthocEMA | None = None
    mesh: Mesh = resumable(Mesh())
    accumulate: int = resumable(1)
    steps: int = resumable(1000)
    seed: int = 0
    init_from: str = ""
    log_every: int = resumable(50)
    log_to: tuple[Literal["tensorboard", "wandb"], ...] = resumable(())
    evaluate_every: int = resumable(0)
    preview_every: int = resumable(0)
    checkpoint_every: int = resumable(1000)
    keep: int = resumable(2)
    keep_every: int = resumable(0)
    keep_best: str = resumable("")
    failed_save: Literal["continue", "stop"] = resumable("continue")
    nonfinite: NonFinite = resumable(NonFinite())
    timeouts: Timeouts = resumable(Timeouts())
    profile: Profile = resumable(Profile())

    def __post_init__(self) -> None:
        for field in ("steps", "log_every", "keep", "accumulate"):
            if getattr(self, field) < 1:
                raise ValueError(f"Experiment needs {field} >= 1, got {getattr(self, field)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"Experiment needs a seed from 0 to 2^32 - 1, got {self.seed}")
        for field in ("evaluate_every", "preview_every", "checkpoint_every", "keep_every"):
            if getattr(self, field) < 0:
                raise ValueError(f"Experiment needs {field} >= 0, got {getattr(self, field)}")
        traced = self.profile.start + self.profile.steps - 1
        if self.profile.steps and traced > self.steps:
            raise ValueError(
                f"profile.start={self.profile.start} and profile.steps={self.profile.steps} trace "
                f"steps to {traced}, but the run has {self.steps}"
            )
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"Experiment needs ema in [0, 1), got {self.ema}; 0.9999 is usual")

    def check_batch(self, mesh: Any) -> None:
        """Raises ValueError unless the batch divides by the devices of a mesh and `accumulate`."""
        size, parts = self.data.batch_size, self.accumulate
        devices = check_batch(size, mesh)
        if size % (parts * devices):
            each = size // devices
            fitting = [str(n) for n in range(1, each + 1) if each % n == 0]
            raise ValueError(
                f"the global batch_size {size} does not divide by accumulate={parts} parts on each "
                f"of {devices} devices; accumulate may be {', '.join(fitting)}"
            )

    @property
    def averaging(self) -> Averaging:
        """What is averaged in training."""
        return Averaging(decay=self.ema, warmup=self.ema_warmup, posthoc=self.posthoc)
