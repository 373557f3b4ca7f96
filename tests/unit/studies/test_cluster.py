import pytest

from milozero.helpers.errors import UserError
from milozero.studies.calibers import CALIBERS, Caliber
from milozero.studies.launchers import cluster
from milozero.studies.launchers.cluster import Cluster, read_cluster
from tests.support import ROOT


@pytest.fixture
def site(tmp_path):
    def write(text):
        (tmp_path / "cluster.yaml").write_text(text)
        return str(tmp_path / "cluster.yaml")

    return write


def test_without_a_file_the_table_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_cluster("") == Cluster()


def test_file_in_this_folder_is_found(site, tmp_path, monkeypatch):
    site("account: mine\n")
    monkeypatch.chdir(tmp_path)
    assert read_cluster("").account == "mine"


def test_site_overrides_times_and_partitions_and_leaves_the_rest(site):
    found = read_cluster(
        site("partitions: {debug: quick, long: [cpu, gpu]}\ntimes: {debug: 00:15:00, short: 1-12}\n")
    )
    assert (found.calibers["debug"].cpu, found.calibers["debug"].gpu) == ("quick", "quick")
    assert (found.calibers["long"].cpu, found.calibers["long"].gpu) == ("cpu", "gpu")
    assert (found.calibers["debug"].time, found.calibers["short"].time) == ("00:15:00", "1-12")
    assert found.calibers["daylong"] == CALIBERS["daylong"]


def test_one_module_needs_no_list(site):
    found = read_cluster(site("modules: OpenMPI\nmemory: 4G\noptions: [--exclude=a b]\nmpi: mpiexec\n"))
    assert (found.modules, found.memory, found.options, found.mpi) == (
        ("OpenMPI",),
        "4G",
        ("--exclude=a b",),
        "mpiexec",
    )


def test_nothing_said_is_nothing_asked(site):
    assert read_cluster(site("modules: []\noptions:\ncommands: []\npartitions: {}\n")) == Cluster()


def test_example_in_the_documentation_is_read(site):
    text = "\n".join(line for line in cluster.__doc__.splitlines()[2:-2] if line.startswith("    ") or not line)
    found = read_cluster(site(text))
    assert (found.calibers["short"].gpu, found.commands) == ("gpu", ("ulimit -c 0",))
    assert (found.gpu, found.mpi) == (Cluster().gpu, Cluster().mpi)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("acount: x\n", "did you mean 'account'"),
        ("partitions: {shrt: x}\n", "did you mean 'short'"),
        ("times: {short: soon}\n", "invalid duration 'soon'"),
        ("times: {short: 00:00:30}\n", "at least a minute"),
        ("account: a\naccount: b\n", "'account' stands twice"),
        ("times: {short: 1h, short: 2h}\n", "'short' stands twice"),
        ("times: {short: ''}\n", "must be text"),
        ("partitions: {short: [a, b, c]}\n", "one for CPU jobs"),
        ("partitions: {short: []}\n", "is empty"),
        ("partitions: [a]\n", "must hold 'name: value' lines"),
        ("- a\n", "must hold 'name: value' lines"),
        ("memory: [1, 2]\n", "memory must be text"),
        ('account: "a\\nb"\n', "account must be text on one line"),
        ("a: [\n", "not valid YAML"),
        ("? [a]\n: b\n", "not valid YAML"),
    ],
)
def test_wrong_site_is_one_line_that_names_the_file(site, text, named):
    with pytest.raises(UserError, match=named) as error:
        read_cluster(site(text))
    assert "cluster.yaml" in str(error.value)


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_cluster(f"{tmp_path}/none.yaml")


def test_documentation_shows_the_table_and_the_example():
    text = (ROOT / "docs/studies.md").read_text()
    for name, row in CALIBERS.items():
        assert f"| `{name}` | {row.time} | {row.cpu} | {row.gpu} |" in text
    for line in cluster.__doc__.splitlines()[2:-2]:
        assert line.removeprefix("    ") in text


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("00:01:00", 30), ("00:05:00", 60), ("00:30:00", 90), ("02:00:00", 360), ("1-00:00:00", 600)],
)
def test_job_is_told_of_its_end_a_twentieth_before_it(limit, seconds):
    assert Caliber(limit, "cpu", "gpu").notice == seconds
