"""The script of the documentation's pictures waits for the runs that it shows."""

import make_pictures

from milozero.studies import job_status
from milozero.studies.folder import StudyFolder, StudyMetadata


def test_pictures_wait_until_no_job_is_active(tmp_path, monkeypatch):
    StudyFolder(str(tmp_path), make_pictures.STUDY).write_metadata(StudyMetadata({}, {}))
    polls = iter([("running", "pending"), ("finished", "pending"), ("finished", "failed")])
    read = lambda *_: [job_status.JobStatus("j", state, "", 0.0) for state in next(polls)]  # noqa: E731
    monkeypatch.setattr(job_status, "read_job_status", read)
    assert make_pictures.wait_for_study(tmp_path, poll_interval_s=0.0) == "1 finished, 1 failed"
    assert list(polls) == []
