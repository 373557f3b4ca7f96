"""Cluster files and the calibers."""

import pytest

from milozero.helpers.errors import UserError
from milozero.studies.config import CALIBERS, Caliber
from milozero.studies.launchers import cluster
from milozero.studies.launchers.cluster import Cluster, read_cluster
from tests.support import ROOT


@pytest.fixture
def site(tmp_path):
    def write(text):
        (tmp_path / "cluster.yaml").write_text(text)
        return str(tmp_path / "cluster.yaml")

    return write


def test_cluster_has_defaults_without_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_cluster("") == Cluster()


def test_file_in_the_working_directory_is_read(site, tmp_path, monkeypatch):
    site("account: mine\n")
    monkeypatch.chdir(tmp_path)
    assert read_cluster("").account == "mine"


def test_file_overrides_time_limits_and_partitions_and_keeps_the_rest(site):
    result = read_cluster(
        site("partitions: {debug: quick, long: [cpu, gpu]}\ntimes: {debug: 00:15:00, short: 1-12}\n")
    )
    assert (result.calibers["debug"].cpu_partition, result.calibers["debug"].gpu_partition) == ("quick", "quick")
    assert (result.calibers["long"].cpu_partition, result.calibers["long"].gpu_partition) == ("cpu", "gpu")
    assert (result.calibers["debug"].time_limit, result.calibers["short"].time_limit) == ("00:15:00", "1-12")
    assert result.calibers["daylong"] == CALIBERS["daylong"]


def test_single_module_needs_no_list(site):
    result = read_cluster(site("modules: OpenMPI\nmemory: 4G\noptions: [--exclude=a b]\nmpi: mpiexec\n"))
    assert (result.modules, result.memory, result.options, result.mpi) == (
        ("OpenMPI",),
        "4G",
        ("--exclude=a b",),
        "mpiexec",
    )


def test_empty_values_are_the_defaults(site):
    assert read_cluster(site("modules: []\noptions:\ncommands: []\npartitions: {}\n")) == Cluster()


def test_example_in_the_docstring_is_valid(site):
    text = "\n".join(line for line in cluster.__doc__.splitlines()[2:-2] if line.startswith("    ") or not line)
    result = read_cluster(site(text))
    assert (result.calibers["short"].gpu_partition, result.commands) == ("gpu", ("ulimit -c 0",))
    assert (result.gpu, result.mpi) == (Cluster().gpu, Cluster().mpi)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acount: x\n", "did you mean 'account'"),
        ("partitions: {shrt: x}\n", "did you mean 'short'"),
        ("times: {short: soon}\n", "invalid duration 'soon'"),
        ("times: {short: 00:00:30}\n", "at least a minute"),
        ("account: a\naccount: b\n", "duplicate key 'account'"),
        ("times: {short: 1h, short: 2h}\n", "duplicate key 'short'"),
        ("times: {short: ''}\n", "must be text"),
        ("partitions: {short: [a, b, c]}\n", "one for CPU jobs"),
        ("partitions: {short: []}\n", "is empty"),
        ("partitions: [a]\n", "must contain 'name: value' lines"),
        ("- a\n", "must contain 'name: value' lines"),
        ("memory: [1, 2]\n", "memory must be text"),
        ('account: "a\\nb"\n', "account must be text on one line"),
        ("a: [\n", "not valid YAML"),
        ("? [a]\n: b\n", "keys must be text"),
        ("modules: &a [*a]\n", "nested too deeply"),
    ],
)
def test_invalid_file_is_a_one_line_error_that_names_it(site, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_cluster(site(text))
    assert "cluster.yaml" in str(error.value)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_cluster(f"{tmp_path}/none.yaml")


def test_docs_show_the_table_and_the_example():
    text = (ROOT / "docs/studies.md").read_text()
    for name, row in CALIBERS.items():
        assert f"| `{name}` | {row.time_limit} | {row.cpu_partition} | {row.gpu_partition} |" in text
    for line in cluster.__doc__.splitlines()[2:-2]:
        assert line.removeprefix("    ") in text


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("00:01:00", 30), ("00:05:00", 60), ("00:30:00", 90), ("02:00:00", 360), ("1-00:00:00", 600)],
)
def test_job_is_signaled_a_twentieth_of_its_time_limit_in_advance(limit, seconds):
    assert Caliber(limit, "cpu", "gpu").signal_lead_s == seconds
