"""The Firestore emulator: found where its installers put it, started on a free port, stopped at the end."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

JAR = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"
MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
START_LIMIT_SECONDS = 60
HOW_TO_GET_IT = (
    "the Firestore emulator was not found: install it with `gcloud components install cloud-firestore-emulator`, the "
    "Debian package `google-cloud-cli-firestore-emulator` or `firebase setup:emulators:firestore`, or set "
    "FIRESTORE_EMULATOR_HOST to one that runs"
)


def jar():
    """The emulator's jar, or nothing."""
    roots = [os.environ.get("CLOUDSDK_ROOT_DIR")]
    gcloud = shutil.which("gcloud")
    if gcloud:
        roots.append(pathlib.Path(gcloud).resolve().parent.parent)
    roots += ["/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk", "/opt/google-cloud-sdk"]
    roots.append(pathlib.Path.home() / "google-cloud-sdk")
    for root in filter(None, roots):
        candidate = pathlib.Path(root) / JAR
        if candidate.is_file():
            return candidate
    cached = pathlib.Path.home() / ".cache/firebase/emulators"
    return max(cached.glob("cloud-firestore-emulator-*.jar"), default=None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(process, host, log):
    """Returns once the emulator answers; fails when it ends or the time is over."""
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the Firestore emulator ended while it started; see {log}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{host}/", timeout=2).close()
            return
        time.sleep(0.05)
    raise SystemExit(f"the Firestore emulator did not answer on {host} in {START_LIMIT_SECONDS} s; see {log}")


@contextlib.contextmanager
def running(folder):
    """The address of an emulator: the one FIRESTORE_EMULATOR_HOST names, else one of our own for as long as it takes."""
    given = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if given:
        yield given
        return
    found = jar()
    if found is None or shutil.which("java") is None:
        raise SystemExit(HOW_TO_GET_IT if found is None else "the Firestore emulator needs Java 11 or newer on PATH")
    host = f"127.0.0.1:{free_port()}"
    log = folder / "emulator.log"
    with open(log, "wb") as output:
        command = ["java", "-Xmx4g", "-cp", str(found), MAIN_CLASS, "start"]
        command += [f"--host={host.split(':')[0]}", f"--port={host.split(':')[1]}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(process, host, log)
        yield host
    finally:
        process.terminate()
        process.wait()
