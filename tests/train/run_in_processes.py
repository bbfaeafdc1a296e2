"""A run as one of several processes, for `test_processes.py`.

    python -m tests.train.run_in_processes WORKDIR STEPS DEVICES PROCESSES PROCESS ADDRESS [TABLE]

It trains the tiny tokenizer, or a DiT over the texts of variable length in a table.
Writes number and checksum of the examples of every step into WORKDIR-ids-PROCESS.json.
"""

import json
import sys
import zlib
from pathlib import Path

import jax


def main() -> int:
    folder, steps, devices, processes, process, address, *table = sys.argv[1:]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", int(devices))

    from vqdit.parallel import distributed

    if int(processes) > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        distributed.start(distributed.place(address, int(processes), int(process)))

    from tests import tiny
    from vqdit.data import Data
    from vqdit.inference.loading import resolver
    from vqdit.optim import AdamW
    from vqdit.parallel import Mesh, layout
    from vqdit.train.loop import train

    layout.SMALL = 64  # so that something is divided
    ids, batches = [], Data.train_batches

    def watched(self, *args, **kwargs):
        for batch in batches(self, *args, **kwargs):
            rows = batch.data["text" if table else "image"]
            marks = [zlib.crc32(row.tobytes()) for row in rows]
            ids.append(list(zip(map(int, batch.index), marks, strict=True)))
            yield batch
            print(len(ids), flush=True)

    Data.train_batches = watched
    mesh = Mesh(fsdp=2) if jax.device_count() > 1 else Mesh()
    optimizer = AdamW(learning_rate=3e-3, warmup=2, final=1.0)  # whatever the number of steps
    fields = {"mesh": mesh, "steps": int(steps), "checkpoint_every": 4, "optimizer": optimizer}
    experiment = tiny.tokenizer(**fields)
    if table:
        from tests.test_variable_texts import experiment as of_texts

        experiment = of_texts(table[0], buckets=2, **fields)
    outcome = train(experiment, Path(folder), resolver({}))
    # The very first batch is looked at alone, by every process: it tells shapes.
    Path(f"{folder}-ids-{process}.json").write_text(json.dumps(ids[1:]))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
