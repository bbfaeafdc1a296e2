"""Whether there are other processes, and what is told wrongly."""

import pytest

from vqdit.parallel.distributed import Place, place, surroundings


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "JAX_COORDINATOR_ADDRESS"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, "Slurm"),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_NTASKS": "4"}, None),  # an allocation, and no srun
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"KUBERNETES_SERVICE_HOST": "1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "the TPU's workers"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_what_says_that_there_are_others(environment, found):
    assert surroundings(environment) == found


def test_a_place_is_told_whole_or_not_at_all():
    assert place(None, None, None) is None
    assert place("host:1234", 4, 3) == Place("host:1234", 4, 3)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (("host:1", None, 0), "belong together"),
        (("host", 2, 0), "must be HOST:PORT, got 'host'"),
        (("host:1", 2, 2), "from 0 to --processes - 1, got 2 of 2"),
        (("host:1", 0, 0), "from 0 to --processes - 1"),
    ],
)
def test_a_place_that_cannot_be_is_refused(told, message):
    with pytest.raises(ValueError, match=message):
        place(*told)
