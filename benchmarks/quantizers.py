"""Speed and memory of every quantizer, compared to vector-quantize-pytorch.

    python -m benchmarks.quantizers                          # all, as a table
    python -m benchmarks.quantizers --only=VQ --sizes=1024,16384 --dims=8

Every case runs in a separate process, so that its peak memory can be measured. A look-up turns
16,384 vectors into codes; a training step adds losses, gradients with respect to the vectors and
the parameters, and the codebook's update. The time is the best of several repetitions, without
compilation. Memory is the peak of the process minus its memory before the first call. The peer
(`pip install -e '.[peers]'`) runs on torch, with as many threads.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

TOKENS = 16384
REPETITIONS = 3
PEER_LIMIT = 2**31
"""Largest tokens x K for the peer, which stores several such arrays: 24 GB."""
LEVELS = {1024: (8, 5, 5, 5), 16384: (8, 8, 8, 6, 5), 262144: (8, 8, 8, 8, 8, 8)}
"""Levels of FSQ with about that many codes."""


def ours(name: str, size: int, dim: int) -> Any:
    """Returns a quantizer with that many codes; `dim` is ignored by those without a codebook."""
    from vqdit import quantizers as q

    bits = int(math.log2(size))
    return {
        "VQ": lambda: q.VQ(codebook_size=size, dim=dim),
        "VQ gradient": lambda: q.VQ(codebook_size=size, dim=dim, learning="gradient"),
        "VQ cosine": lambda: q.VQ(codebook_size=size, dim=dim, distance="cosine"),
        "RVQ x4": lambda: q.RVQ(quantizer=q.VQ(codebook_size=size, dim=dim), depth=4),
        "GroupedVQ x2": lambda: q.GroupedVQ(quantizer=q.VQ(codebook_size=size, dim=dim // 2)),
        "FSQ": lambda: q.FSQ(levels=LEVELS[size]),
        "LFQ": lambda: q.LFQ(bits=bits),
        "BSQ": lambda: q.BSQ(bits=bits),
        "SimVQ": lambda: q.SimVQ(codebook_size=size, dim=dim),
        "IBQ": lambda: q.IBQ(codebook_size=size, dim=dim),
        "GumbelVQ": lambda: q.GumbelVQ(codebook_size=size, dim=dim),
    }[name]()


NAMES = (
    *("VQ", "VQ gradient", "VQ cosine", "RVQ x4", "GroupedVQ x2", "FSQ", "LFQ", "BSQ"),
    *("SimVQ", "IBQ", "GumbelVQ"),
)


def theirs(name: str, size: int, dim: int) -> Any:
    """Returns the peer's quantizer of the same kind, or None."""
    import vector_quantize_pytorch as p

    bits, plain = int(math.log2(size)), {"rotation_trick": False}
    learnable = {"ema_update": False, "learnable_codebook": True, **plain}
    make: dict[str, Callable[[], Any]] = {
        "VQ": lambda: p.VectorQuantize(dim, size, threshold_ema_dead_code=2, **plain),
        "VQ gradient": lambda: p.VectorQuantize(dim, size, **learnable),
        "VQ cosine": lambda: p.VectorQuantize(dim, size, use_cosine_sim=True, **plain),
        "RVQ x4": lambda: p.ResidualVQ(dim=dim, num_quantizers=4, codebook_size=size, **plain),
        "FSQ": lambda: p.FSQ(list(LEVELS[size])),
        "LFQ": lambda: p.LFQ(dim=bits),
        "BSQ": lambda: p.LFQ(dim=bits, spherical=True),
        "SimVQ": lambda: p.SimVQ(dim=dim, codebook_size=size, **plain),
    }
    return make[name]() if name in make else None


def best(call: Callable[[], None]) -> float:
    """Returns the milliseconds of the fastest of several calls, without compilation."""
    call()
    found = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return 1000.0 * min(found)


def measure_ours(name: str, size: int, dim: int, what: str) -> float:
    """Returns milliseconds of a "lookup" or a "step"."""
    import jax
    import jax.numpy as jnp

    quantizer = ours(name, size, dim)
    z = jax.random.normal(jax.random.key(0), (TOKENS, quantizer.dim))
    params, stats = quantizer.init(jax.random.key(1))
    weights = quantizer.weights

    def step(params: Any, stats: Any, z: Any) -> Any:
        def loss(params: Any, z: Any) -> Any:
            out = quantizer.quantize(params, stats, z, key=jax.random.key(2))
            total = jnp.mean(out.z_q**2)
            return total + sum(weights[n] * value for n, value in out.losses.items()), out.codes

        (_, codes), gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, z)
        return quantizer.update(params, stats, z, codes, jax.random.key(3), jnp.int32(9)), gradient

    def look(params: Any, stats: Any, z: Any) -> Any:
        return quantizer.encode(params, stats, z)

    compiled = jax.jit(look if what == "lookup" else step)
    return best(lambda: jax.block_until_ready(compiled(params, stats, z)))


def measure_theirs(name: str, size: int, dim: int, what: str) -> float | None:
    """Returns milliseconds of a "lookup" or a "step", or None if there is no such quantizer."""
    import torch

    quantizer = theirs(name, size, dim)
    if quantizer is None:
        return None
    width = ours(name, size, dim).dim
    z = torch.randn(1, TOKENS, width)
    quantizer.train(what == "step")

    def look() -> None:
        with torch.no_grad():
            quantizer(z)

    def step() -> None:
        x = z.clone().requires_grad_()
        out = quantizer(x)
        loss = (out[0] ** 2).mean() + sum(part.sum() for part in out[2:])
        loss.backward()

    return best(look if what == "lookup" else step)


def peak() -> float:
    """Returns the highest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def run_case(case: str) -> dict[str, Any]:
    """Measures one case in this process."""
    side, name, size, dim, what = case.split(":")
    if side == "ours":
        import jax

        jax.block_until_ready(jax.numpy.zeros(()))
        before = peak()
        found = measure_ours(name, int(size), int(dim), what)
    else:
        import torch

        torch.zeros(())
        before = peak()
        found = measure_theirs(name, int(size), int(dim), what)
    return {"ms": found, "mb": peak() - before}


def in_process(case: str) -> dict[str, Any]:
    """Measures one case in a separate process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.quantizers", "--case", case]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"ms": None, "mb": None, "error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, size: int, dim: int, with_peer: bool) -> dict[str, Any]:
    """Measures one quantizer."""
    record: dict[str, Any] = {"quantizer": name, "codes": size, "dim": dim}
    for what in ("lookup", "step"):
        record[what] = in_process(f"ours:{name}:{size}:{dim}:{what}")
        if with_peer and TOKENS * size < PEER_LIMIT:
            record[f"peer_{what}"] = in_process(f"theirs:{name}:{size}:{dim}:{what}")
    return record


def cell(record: dict[str, Any], what: str) -> str:
    """Formats time, memory and their ratios to the peer's."""
    own, peer = record[what], record.get(f"peer_{what}", {"ms": None, "mb": None})
    if own["ms"] is None:
        return "failed"
    text = f"{own['ms']:.0f} ms, {own['mb']:.0f} MB"
    if peer["ms"] is None:
        return text
    return f"{text} ({own['ms'] / peer['ms']:.2f} x, {own['mb'] / peer['mb']:.2f} x)"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--sizes", default="1024,16384,262144")
    parser.add_argument("--dims", default="8,256")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(run_case(args.case)))
        return
    print("| quantizer | codes | dim | look-up (to the peer) | training step (to the peer) |")
    print("|---|---|---|---|---|")
    for size in map(int, args.sizes.split(",")):
        for dim in map(int, args.dims.split(",")):
            for name in args.only.split(","):
                own_width = name in ("FSQ", "LFQ", "BSQ")
                if own_width and dim != int(args.dims.split(",")[0]):
                    continue
                found = row(name, size, dim, not args.no_peer)
                width = "" if own_width else dim
                cells = f"{cell(found, 'lookup')} | {cell(found, 'step')}"
                print(f"| {name} | {size:,} | {width} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
