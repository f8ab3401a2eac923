"""Hydra's jobs through hydra/launcher=rehearsal: all is real but the training, which is tiny."""

import json
import signal
import time

import psutil

REHEARSE = ("-m", "hydra/launcher=rehearsal", "hydra.launcher.poll_s=0.1", "hydra.launcher.upload_interval_s=0.1")
TEXTS = [
    'it\'s "quoted"',
    "a,b=c [d] {e: f}",
    "$HOME $(touch ran) `touch ran` ; touch ran",
    "ü 数 🛒",
    "x" * 2000,
    " spaces  ",
    "back\\slash",
    "tab\tand",
    "line\nbreak $(touch ran)",
]


def quoted(text: str) -> str:
    """Returns a text as Hydra's grammar wants it inside a list."""
    return "'" + text.replace("'", "\\'") + "'"


def metrics(tiny, job: int = 0) -> dict:
    (path,) = (tiny.folder / "runs" / "sweep" / str(job)).rglob("metrics.json")
    return json.loads(path.read_text())


def test_two_jobs_give_two_metrics_and_one_table(tiny):
    told = tiny.type(*REHEARSE, "lr=0.25,0.75", "steps=3", "+compute.tags.team=bins", is_fresh=True)
    assert told.returncode == 0, told.stdout + told.stderr
    assert [metrics(tiny, job)["valid/accuracy"] for job in (0, 1)] == [0.25, 0.75]
    assert metrics(tiny, 1)["words"] == ["lr=0.75", "steps=3", "+compute.tags.team=bins"]
    assert told.stdout.count("│ Completed │") == 2
    assert told.stdout.count("┏") == 1, "one table"
    assert "valid/accuracy 0.2500\n  results in" in told.stdout


def test_hostile_words_arrive_byte_for_byte_and_run_nothing(tiny):
    word = f"texts=[{','.join(map(quoted, TEXTS))}]"
    here = tiny.type(word)
    assert here.returncode == 0, here.stderr
    expected = json.loads((tiny.folder / "runs/local/metrics.json").read_text())
    assert expected["texts"] == TEXTS
    there = tiny.type(*REHEARSE, word, "lr=1e-4", "steps=1")
    assert there.returncode == 0, there.stdout + there.stderr
    assert metrics(tiny)["words"] == [word, "lr=1e-4", "steps=1"]
    assert metrics(tiny)["texts"] == TEXTS
    assert not list(tiny.folder.rglob("ran"))


def test_each_job_that_failed_is_told(tiny):
    told = tiny.type(*REHEARSE, "fail=resnet5,resnet6")
    assert told.returncode == 1
    first, second = told.stdout.split("No result: ")[1:]
    assert "AlgorithmError" in first and "no such backbone: resnet5" in first
    assert "AlgorithmError" in second and "no such backbone: resnet6" in second


def test_a_users_exception_is_on_the_screen(tiny):
    told = tiny.type(*REHEARSE, "fail=resnet5")
    assert told.returncode == 1
    assert "Traceback (most recent call last)" in told.stderr
    assert "KeyError: 'no such backbone: resnet5'" in told.stderr
    assert "AlgorithmError" in told.stderr
    assert "Failed" in told.stdout


def test_the_job_sees_nothing_of_a_real_run(tiny):
    told = tiny.type(*REHEARSE, WANDB_API_KEY="not-for-rehearsals")
    assert told.returncode == 0, told.stdout + told.stderr
    environment = metrics(tiny)["environment"]
    assert environment["WANDB_MODE"] == "offline"
    assert len(environment["STOCKTAKE_COMMIT"]) == 40
    assert "not-for-rehearsals" not in told.stdout


def test_a_dry_run_shows_requests_words_and_files(tiny):
    words = (*REHEARSE, "hydra.launcher.dry_run=true", "compute=spot", "compute.num_instances=2")
    told = tiny.type(*words, "hydra.launcher.list_files=true")
    assert told.returncode == 0, told.stderr
    assert '"InstanceCount": 2' in told.stdout
    assert "src/tiny.py" in told.stdout
    assert "Nothing was sent" in told.stdout
    assert not (tiny.folder / "runs" / "rehearsal").exists()


def test_the_code_is_that_of_the_command_wherever_it_is_typed(tiny, tmp_path):
    tiny.typed_in = tmp_path  # no repository
    told = tiny.type("-m", "hydra/launcher=rehearsal", "hydra.launcher.dry_run=true", "hydra.launcher.list_files=true")
    assert "src/tiny.py" in told.stdout, told.stderr
    assert "is no git repository" not in told.stderr


def test_a_wrong_value_is_refused_with_its_key(tiny):
    told = tiny.type(*REHEARSE, "compute.instance_types=[ml.g5.huge]", "compute.num_instances=two")
    assert told.returncode == 1
    assert "compute.num_instances (ResourceConfig.InstanceCount): 'two' is a str" in told.stderr
    assert "compute.instance_types (ResourceConfig.InstanceType): 'ml.g5.huge'" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_forgotten_file_is_refused(tiny):
    (tiny.folder / "src" / "new.py").write_text("")
    told = tiny.type(*REHEARSE)
    assert told.returncode == 1
    assert "git add src/new.py" in told.stderr


def test_a_sweep_over_a_failing_job_still_shows_the_other(tiny):
    told = tiny.type(*REHEARSE, "fail=resnet5,''")
    assert told.returncode == 1
    assert metrics(tiny, 1)["valid/accuracy"] == 0.5
    assert "KeyError" in told.stderr


def test_who_is_told_to_end_ends_the_instances_first(tiny):
    process = tiny.start(*REHEARSE, "steps=2000", "pause_s=0.05")
    deadline = time.monotonic() + 60
    while len(instances(tiny.folder)) < 3:  # the container, torchrun and the training
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, output + errors
    assert instances(tiny.folder) == []


def instances(folder) -> list[psutil.Process]:
    """Returns what runs in the instances of a rehearsal, whose environment names their base folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SAGEMAKER_BASE_DIR", "").startswith(str(folder)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
