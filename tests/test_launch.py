"""The launch templates, run with stand-ins for their tools; what they start is ours to parse."""

import ast
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from vqdit import config as configs
from vqdit.cli.options import bind
from vqdit.cli.overrides import override
from vqdit.cli.train import train
from vqdit.parallel.distributed import Place, place

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "docs" / "launch"
PAGE = (ROOT / "docs" / "launch.md").read_text()
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
XL2 = "configs/image/imagenet256_dit_xl2.py"
ARGUMENTS = [f"--config={XL2}", "--workdir=/shared/a run's", "--mesh.fsdp=8", "--mesh.tensor=2"]

STUB = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
with open("{calls}", "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
codes = "{codes}/" + name
if os.path.exists(codes):
    first, *rest = open(codes).read().split()
    open(codes, "w").write(" ".join(rest))
    sys.exit(int(first))
"""


class Tools:
    """Programs first on PATH that note how they were called, and end with the codes given."""

    def __init__(self, folder):
        self.folder, self.calls_file = folder, folder / "calls"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("gcloud", "xpk", "srun", "scontrol", "sbatch", "sky", "docker", "python"):
            self.make(self.bin / name)

    def make(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            STUB.format(python=sys.executable, calls=self.calls_file, codes=self.folder)
        )
        path.chmod(0o755)

    def ends(self, name, *codes):
        (self.folder / name).write_text(" ".join(map(str, codes)))

    def environment(self, **more):
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.folder), **more}

    def run(self, *command, cwd=ROOT, **environment):
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=30,
        )

    @property
    def calls(self):
        lines = self.calls_file.read_text().splitlines() if self.calls_file.is_file() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def tools(tmp_path):
    return Tools(tmp_path)


def parsed(command):
    """What our own command line makes of a training command: (experiment, workdir, place)."""
    program, script, *arguments = command
    assert Path(program).name == "python" and script == "train.py", command
    options = bind(train, arguments, "train").keywords
    name, workdir, rest = options["config"], options["workdir"], options["overrides"]
    told = [options[one] for one in ("coordinator", "processes", "process")]
    assert name in configs.shipped() or (ROOT / name).is_file(), name
    loaded = configs.load(str(ROOT / name) if name.endswith(".py") else name)[1]
    return override(loaded, rest), workdir, place(*told)


def options(call):
    """The `--name=value` among the arguments of a call."""
    found = dict(word.partition("=")[::2] for word in call if word.startswith("--"))
    assert all(found.values()), f"an option without a value: {call}"
    return found


def is_asked_for(command):
    experiment, workdir, told = parsed(command)
    assert (experiment.mesh.fsdp, experiment.mesh.tensor) == (8, 2)
    assert workdir == "/shared/a run's"  # a space and a quote survive every shell
    return told


def test_a_wrong_option_is_noticed():
    with pytest.raises(ValueError, match="fsdb"):
        parsed(["python", "train.py", f"--config={XL2}", "--mesh.fsdb=8"])


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_every_script_is_bash(script):
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_page_names_every_template_and_nothing_else():
    named = set(re.findall(r"\(launch/([^)]+)\)", PAGE))
    assert named == {path.name for path in LAUNCH.iterdir()}
    assert "(docs/launch.md)" in (ROOT / "README.md").read_text()


def test_tpu_vm_runs_the_command_on_every_worker(tools, tmp_path):
    done = tools.run("bash", LAUNCH / "tpu_vm.sh", *ARGUMENTS, TPU_NAME="tpu", ZONE="zone")
    assert (done.returncode, done.stderr) == (0, "")
    [call] = tools.calls
    assert call[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "tpu"]
    given = options(call)
    assert set(given) == {"--zone", "--worker", "--command"}
    assert (given["--zone"], given["--worker"]) == ("zone", "all")
    # Then on a worker, whose checkout is ~/vqdit:
    (tmp_path / "vqdit" / "docs").mkdir(parents=True)
    (tmp_path / "vqdit" / "docs" / "launch").symlink_to(LAUNCH)
    tools.make(tmp_path / "vqdit" / ".venv" / "bin" / "python")
    tools.calls_file.unlink()
    assert tools.run("bash", "-c", given["--command"], cwd=tmp_path).returncode == 0
    assert is_asked_for(tools.calls[0]) is None


@pytest.mark.parametrize("name", ["tpu_vm.sh", "gke_xpk.sh"])
def test_what_a_script_needs_is_named(tools, name):
    done = tools.run("bash", LAUNCH / name, *ARGUMENTS)
    assert done.returncode != 0 and "is the name of the" in done.stderr
    assert tools.calls == []


def test_xpk_creates_a_workload_that_starts_again_after_our_codes(tools):
    names = {"CLUSTER": "cluster", "ZONE": "zone", "IMAGE": "image"}
    done = tools.run("bash", LAUNCH / "gke_xpk.sh", *ARGUMENTS, **names)
    assert (done.returncode, done.stderr) == (0, "")
    [call] = tools.calls
    assert call[:3] == ["xpk", "workload", "create"]
    given = options(call)
    assert given.pop("--restart-on-exit-codes").split(",") == ["75", "124"]
    assert is_asked_for(shlex.split(given.pop("--command"))) is None
    assert given == {
        "--cluster": "cluster",
        "--zone": "zone",
        "--workload": "vqdit",
        "--tpu-type": "v5litepod-32",
        "--num-slices": "1",
        "--docker-image": "image",
        "--max-restarts": "20",
        "--termination-grace-period-seconds": "120",
    }


SLURM = {"SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_ID": "17"}


def test_slurm_asks_for_one_task_a_gpu_and_a_signal_in_time():
    lines = (LAUNCH / "slurm.sh").read_text().splitlines()
    given = dict(line[8:].partition("=")[::2] for line in lines if line.startswith("#SBATCH "))
    assert given["--ntasks-per-node"] == given["--gpus-per-node"]
    assert given["--signal"] == "B:TERM@120" and "--requeue" in given
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])  # sbatch stops there


@pytest.mark.parametrize("code", [75, 124, 134, 137, 143])
def test_slurm_requeues_what_can_go_on(tools, code):
    tools.ends("srun", code)
    done = tools.run("bash", LAUNCH / "slurm.sh", *ARGUMENTS, **SLURM)
    assert done.returncode == code
    srun, requeue = tools.calls
    start = srun.index(".venv/bin/python")
    assert srun[:start] == ["srun", "--kill-on-bad-exit=0", "--wait=60", "--cpus-per-task=8"]
    assert is_asked_for(srun[start:]) is None
    assert requeue == ["scontrol", "requeue", "17"]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_slurm_leaves_the_rest(tools, code):
    tools.ends("srun", code)
    assert tools.run("bash", LAUNCH / "slurm.sh", *ARGUMENTS, **SLURM).returncode == code
    assert [call[0] for call in tools.calls] == ["srun"]


def test_slurm_gives_up_after_twenty_restarts(tools):
    tools.ends("srun", 75, 75)
    for count in ("19", "20"):
        tools.run("bash", LAUNCH / "slurm.sh", *ARGUMENTS, SLURM_RESTART_COUNT=count, **SLURM)
    assert [call[0] for call in tools.calls] == ["srun", "scontrol", "srun"]


SAVES = """#!/bin/bash
trap 'sleep 0.3; exit 75' TERM
touch "$HOME/started"
while true; do sleep 0.05; done
"""
"""A program that ends with 75 some time after SIGTERM, as a training does."""


def stopped(tools, *command, **environment):
    """Starts a command, sends it SIGTERM twice once its program runs; returns the exit code."""
    process = subprocess.Popen(command, cwd=ROOT, env=tools.environment(**environment))
    deadline = time.monotonic() + 20
    while not (tools.folder / "started").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=20)


def test_slurm_passes_the_signal_on_and_waits_until_the_run_is_saved(tools):
    (tools.bin / "srun").write_text(SAVES)
    assert stopped(tools, "bash", LAUNCH / "slurm.sh", *ARGUMENTS, **SLURM) == 75
    assert tools.calls == [["scontrol", "requeue", "17"]]


@pytest.mark.parametrize("name", ["slurm.sh", "again.sh"])
def test_signals_are_kept_from_before_the_command_starts(name):
    script = (LAUNCH / name).read_text()
    assert script.index("trap ") < script.index("&\n")


@pytest.mark.parametrize(
    ("codes", "last", "starts"),
    [
        ([124, 134, 0], 0, 3),
        ([124, 2], 2, 2),
        ([75], 75, 1),
        ([2], 2, 1),
        ([3], 3, 1),
        ([124] * 11, 124, 11),
    ],
)
def test_again_starts_again_only_where_that_helps(tools, codes, last, starts):
    tools.ends("python", *codes)
    done = tools.run("bash", LAUNCH / "again.sh", "python", "train.py", *ARGUMENTS)
    assert done.returncode == last
    assert [call[1:] for call in tools.calls] == [["train.py", *ARGUMENTS]] * starts


def test_again_passes_the_signal_on_and_ends_with_the_code_of_the_run(tools):
    (tools.bin / "python").write_text(SAVES)
    assert stopped(tools, "bash", LAUNCH / "again.sh", "python") == 75


def test_again_does_not_start_again_after_a_signal(tools):
    (tools.bin / "python").write_text(
        """#!/bin/bash\ntrap '' TERM\necho >> "$HOME/starts"\n"""
        "kill -TERM $PPID\nsleep 0.3\nexit 124\n"
    )
    assert tools.run("bash", LAUNCH / "again.sh", "python").returncode == 124
    assert (tools.folder / "starts").read_text() == "\n"


def sky(tools, rank):
    """Runs what sky.yaml runs on one of two machines; returns the training command."""
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    (tools.folder / "code" / ".venv").mkdir(parents=True, exist_ok=True)
    tools.make(tools.folder / "code" / ".venv" / "bin" / "python")
    machine = {
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NUM_NODES": str(task["num_nodes"]),
        "SKYPILOT_NODE_RANK": str(rank),
        "ARGUMENTS": f"--config={XL2} --mesh.fsdp=8",
    }
    tools.run("bash", "-c", task["run"], cwd=tools.folder / "code", **machine)
    return tools.calls[-1]


def test_sky_tells_every_machine_its_place(tools):
    for rank in (0, 1):
        experiment, workdir, told = parsed(sky(tools, rank))
        assert told == Place("10.0.0.1:12355", 2, rank)
        assert (experiment.mesh.fsdp, workdir) == (8, "/runs/vqdit")


def test_sky_yaml_says_what_it_needs_and_when_to_start_again():
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    fields = {"name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
    assert set(task) == fields
    assert task["envs"] == {"BUCKET": None, "ARGUMENTS": None}  # null: must be given
    assert task["resources"]["job_recovery"] == {"recover_on_exit_codes": [75, 124, 134]}
    [(mount, bucket)] = task["file_mounts"].items()
    assert (mount, bucket["name"]) == ("/runs", "${BUCKET}")
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def dockerfile():
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    return [line.split(" ", 1) for line in lines if line and not line.startswith("#")]


def test_the_dockerfile_copies_what_there_is_and_installs_an_extra():
    assert [word for word, _ in dockerfile()] == "FROM ARG WORKDIR COPY COPY COPY RUN CMD".split()
    for word, rest in dockerfile():
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    [install] = [rest for word, rest in dockerfile() if word == "RUN"]
    for extra, wanted in {"": ".", "cuda": ".[cuda]", "tpu": ".[tpu]"}.items():
        shell = f'pip() {{ echo "${{@: -1}}"; }}; {install}'
        shown = subprocess.run(
            ["bash", "-c", shell], env={"EXTRA": extra}, capture_output=True, text=True
        )
        assert shown.stdout == f"{wanted}\n"


def test_the_image_trains_by_default():
    [command] = [rest for word, rest in dockerfile() if word == "CMD"]
    experiments, workdir, told = parsed(ast.literal_eval(command))
    assert set(experiments) == set(configs.load("quickstart")[1])
    assert (workdir, told) == (None, None)


def training(line):
    """The training command of a line of the page; None: it has none."""
    words = shlex.split(line)
    if "train.py" in words:
        return words[words.index("train.py") - 1 :]
    for word in words:
        if word.startswith("ARGUMENTS="):
            return ["python", "train.py", *shlex.split(word.removeprefix("ARGUMENTS="))]
    starts = [n for n, word in enumerate(words) if word.startswith("--config=")]
    return ["python", "train.py", *words[starts[0] :]] if starts else None


def test_the_commands_of_the_page_parse_and_name_templates_that_are_there():
    commands = [command for line in LINES if (command := training(line))]
    assert len(commands) == 7
    assert {parsed(command)[0].mesh.fsdp for command in commands} == {8}
    assert [told for command in commands if (told := parsed(command)[2])] == [
        Place("10.0.0.1:12355", 2, 0),
        Place("10.0.0.1:12355", 2, 1),
    ]
    for path in re.findall(r"docs/launch/\S+", " ".join(LINES)):
        assert (ROOT / path).is_file(), path
