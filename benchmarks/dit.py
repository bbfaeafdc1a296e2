"""Compares training and sampling speed of a DiT with those of diffusers' DiT under torch.

    pip install -e '.[peers]'
    python -m benchmarks.dit --model=S/2 --batch=8

Both train by flow matching on latents of 32x32x4 in memory and labels, with AdamW and a moving
average, and both sample with 20 Euler steps and classifier-free guidance. The cases run one after
the other, each in its own process. torch runs eagerly and compiled; vqdit is compared with the
faster of the two. Products are in bfloat16 on a GPU and in float32 on a CPU.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from vqdit.models.dit import SIZES
from vqdit.profiling.benchmark import WARM_UP

EDGE, CHANNELS, CLASSES = 32, 4, 1000
GUIDANCE = 1.5


def ours(model: str, batch: int, what: str, steps: int) -> float:
    """Returns milliseconds of a step, by `vqdit bench`."""
    command = [sys.executable, "-m", "vqdit", "bench", f"--model={model}", f"--batch={batch}"]
    command += [f"--steps={steps}"]
    command += ["--sample", f"--guidance={GUIDANCE}"] if what == "sampling" else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["step_ms"]


def theirs(model: str, batch: int, what: str, how: str, steps: int) -> float:
    """Returns milliseconds of a step of diffusers' DiT, "eager" or "compiled"."""
    import torch
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    size, _, patch = model.partition("/")
    fields = SIZES[size]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    network: Any = DiTTransformer2DModel(
        num_attention_heads=fields["heads"],
        attention_head_dim=fields["dim"] // fields["heads"],
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=fields["depth"],
        sample_size=EDGE,
        patch_size=int(patch),
        num_embeds_ada_norm=CLASSES,
    ).to(device)
    average = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0)
    x_0 = torch.randn(batch, CHANNELS, EDGE, EDGE, device=device)
    label = torch.randint(0, CLASSES, (batch,), device=device)
    forward = torch.compile(network) if how == "compiled" else network
    autocast = torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")

    def train() -> None:
        t = torch.rand(batch, device=device)
        eps = torch.randn_like(x_0)
        share = t[:, None, None, None]
        with autocast:
            found = forward((1 - share) * x_0 + share * eps, timestep=1000 * t, class_labels=label)
        loss = ((found.sample.float() - (eps - x_0)) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 1e-4)

    def sample() -> None:
        network.eval()
        labels = torch.cat([label, torch.full_like(label, CLASSES)])
        x = torch.randn_like(x_0)
        with torch.no_grad(), autocast:
            for number in range(steps):
                t = torch.full((2 * batch,), 1000 * (1 - number / steps), device=device)
                out = forward(torch.cat([x, x]), timestep=t, class_labels=labels).sample
                good, bad = out.float().chunk(2)
                x = x - (bad + GUIDANCE * (good - bad)) / steps

    network.train(what == "training")
    if what == "training":
        return milliseconds(train, steps, torch)
    return milliseconds(sample, 1, torch) / steps


def milliseconds(call: Callable[[], None], count: int, torch: Any) -> float:
    """Returns the mean time of a call over `count` calls, after `WARM_UP` calls."""

    def finish() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    for _ in range(WARM_UP):
        call()
    finish()
    start = time.perf_counter()
    for _ in range(count):
        call()
    finish()
    return 1e3 * (time.perf_counter() - start) / count


def in_process(args: argparse.Namespace, what: str, how: str) -> float | None:
    """Measures one case of the peer in a separate process; None if it fails."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.dit", f"--case={what}:{how}"]
    command += [f"--model={args.model}", f"--batch={args.batch}", f"--steps={args.steps}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{what}, torch {how}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints a table of milliseconds, and of their ratio to the faster of the peer's two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="S/2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(theirs(args.model, args.batch, *args.case.split(":"), args.steps)))
        return
    print(f"DiT-{args.model}, latents {EDGE}x{EDGE}x{CHANNELS}, batch {args.batch}: ms of a step")
    print("| | ours | torch eager | torch compiled | ours / better |")
    print("|---|---|---|---|---|")
    for what in ("training", "sampling"):
        own = ours(args.model, args.batch, what, args.steps)
        peers = [in_process(args, what, how) for how in ("eager", "compiled")]
        known = [peer for peer in peers if peer is not None]
        ratio = f"{own / min(known):.2f}" if known else ""
        shown = ["failed" if peer is None else f"{peer:.0f}" for peer in peers]
        print(f"| {what} | {own:.0f} | {' | '.join(shown)} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
