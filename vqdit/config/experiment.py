"""An experiment: the complete configuration of a run, as a frozen dataclass."""

from typing import Any, Literal

from vqdit.data import Data
from vqdit.optim.ema import Averaging, PosthocEMA
from vqdit.optim.optimizers import AdamW, Optimizer
from vqdit.parallel import Mesh, check_batch
from vqdit.tasks.base import Task
from vqdit.tasks.tokenizer import TokenizerTask
from vqdit.typing import Component, resumable


class NonFinite(Component):
    """Policy for steps whose loss or gradient is not finite; all such steps are skipped.

    Attributes:
        policy: "skip" continues, but ends the run after `limit` skipped steps in a row; "abort"
            ends the run at the first skipped step; "rollback" waits for `limit` skipped steps in a
            row, restores the last checkpoint before them, and continues with the data that follow
            them.
        limit: number of consecutive skipped steps after which "skip" ends the run, and "rollback"
            restores a checkpoint.
        rollbacks: largest number of rollbacks in a run; if one more would be needed, the run ends.
    """

    policy: Literal["skip", "abort", "rollback"] = "skip"
    limit: int = 10
    rollbacks: int = 3

    def __post_init__(self) -> None:
        if self.limit < 1 or self.rollbacks < 1:
            raise ValueError(
                f"NonFinite needs limit >= 1 and rollbacks >= 1, got limit={self.limit} and "
                f"rollbacks={self.rollbacks}"
            )


class Timeouts(Component):
    """Seconds without progress after which the run exits with code 124; 0 disables a timeout.

    Attributes:
        start: time until the first step starts: loading data, frozen arrays and the state.
        compile: time of the first step, which includes compilation.
        step: time of every other step, including waiting for data.
        evaluate: time of each batch of an evaluation, each preview and each save.
    """

    start: float = 1800.0
    compile: float = 3600.0
    step: float = 1800.0
    evaluate: float = 1800.0

    def __post_init__(self) -> None:
        for field in ("start", "compile", "step", "evaluate"):
            if getattr(self, field) < 0:
                raise ValueError(
                    f"Timeouts needs {field} >= 0 seconds, got {getattr(self, field)}; "
                    "0 disables the timeout"
                )


class Profile(Component):
    """Steps whose profiler trace is written to `WORKDIR/profile`, for xprof or Perfetto.

    Attributes:
        start: number of the first traced step, counted from 1; the trace of step 1 is large.
        steps: number of traced steps; 0 disables tracing.
    """

    start: int = 10
    steps: int = 0

    def __post_init__(self) -> None:
        if self.start < 1 or self.steps < 0:
            raise ValueError(
                f"Profile needs start >= 1 and steps >= 0, got start={self.start} and "
                f"steps={self.steps}"
            )


class Experiment(Component):
    """One training run.

    Attributes:
        task: the model, its losses and metrics.
        data: the data source, augmentation and global batch size.
        optimizer: the optimizer and its schedule.
        ema: decay of the exponential moving average of the parameters, which evaluation and
            sampling use; 0 disables averaging.
        ema_warmup: True begins with a smaller decay, which increases to `ema`, so that the average
            soon forgets the first steps.
        posthoc: power-function averages of the parameters, from which `vqdit average` computes an
            average of any width after training; None saves none.
        mesh: arrangement of the devices.
        accumulate: number of parts into which a batch is divided; they are processed one after the
            other, which saves memory on accelerators, but not on a CPU. Loss and gradient are equal
            to those of the whole batch, except for adversarial losses; these and the metrics are
            averaged over the parts.
        steps: length of the run in steps.
        seed: seed of all random numbers.
        init_from: workdir of a finished run from which to start, for fine-tuning; "" starts from
            new parameters. If a run is given, its codebook is already learned, so the quantizer's
            `start` is ignored.
        init_other_tokenizers: whether the run `init_from` may have been trained with other
            tokenizers than this run. The same code of two tokenizers has different meanings, so
            this is an error by default.
        log_every: number of steps between lines of metrics.
        log_to: further destinations of metrics, besides the workdir: "tensorboard" (files in the
            workdir) and "wandb" (Weights & Biases); each needs the extra of the same name.
        evaluate_every: number of steps between evaluations on the validation split; 0 evaluates
            only at the end.
        preview_every: number of steps between previews; 0 makes one only at the end.
        checkpoint_every: number of steps between checkpoints; 0 saves only at the end (and when
            interrupted).
        keep: number of newest checkpoints to keep.
        keep_every: also keep checkpoints whose step is a multiple of this number; 0 disables the
            rule.
        keep_best: also keep the checkpoint with the highest value of this validation metric, such
            as "psnr"; a prefix -, as in "-l1", means the lowest value.
        failed_save: what to do if a checkpoint or preview cannot be written, for example on a full
            disk: "continue" logs an error and continues, "stop" ends the run. A failure of the last
            checkpoint or preview always ends the run.
        nonfinite: policy for steps whose loss or gradient is not finite.
        timeouts: time limits after which a hanging run is ended.
        profile: steps to trace.
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
    init_other_tokenizers: bool = False
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
                f"profile.start={self.profile.start} and profile.steps={self.profile.steps} "
                f"trace steps up to {traced}, but the run has only {self.steps} steps; reduce "
                "them"
            )
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"Experiment needs ema in [0, 1), got {self.ema}; 0.9999 is usual")

    def check_batch(self, mesh: Any) -> None:
        """Raises ValueError unless the batch size is a multiple of devices times `accumulate`."""
        size, parts = self.data.batch_size, self.accumulate
        devices = check_batch(size, mesh)
        if size % (parts * devices):
            each = size // devices
            fitting = [str(n) for n in range(1, each + 1) if each % n == 0]
            raise ValueError(
                f"the global batch_size {size} is not divisible by accumulate={parts} parts on "
                f"each of {devices} devices; accumulate may be {', '.join(fitting)}"
            )

    @property
    def averaging(self) -> Averaging:
        """The moving averages of the parameters that training computes."""
        return Averaging(decay=self.ema, warmup=self.ema_warmup, posthoc=self.posthoc)
