"""What is measured: for each tool its command line, its environment, and how to count what it wrote."""

import base64
import dataclasses
import os
import pathlib
import re
import subprocess

import seed

HERE = pathlib.Path(__file__).resolve().parent
FIREBACKUP = "firebackup"


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where everything stands during one measurement."""

    host: str
    project: str
    peers: pathlib.Path
    key_file: pathlib.Path
    output: pathlib.Path
    firebackup: pathlib.Path
    master_key: str

    def environment(self):
        return os.environ | {
            "FIRESTORE_EMULATOR_HOST": self.host,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "GCLOUD_PROJECT": self.project,
            "FIREBACKUP_MASTER_KEY": self.master_key,
            "PEERS_DIR": str(self.peers),
        }


def npm(setting, name):
    return str(setting.peers / "node_modules/.bin" / name)


def backfire(setting):
    file = str(setting.output / "export.ndjson")
    return [npm(setting, "backfire"), "export", file, "--project", setting.project, "--emulator", setting.host]


def export_import(setting):
    script = str(HERE / "firestore-export-import.mjs")
    return ["node", script, str(setting.key_file), str(setting.output / "export.json")]


def endran(setting):
    port = setting.host.rsplit(":", 1)[1]
    # It takes paths relative to the working folder only, which is the output folder.
    key_file = os.path.relpath(setting.key_file, setting.output)
    return [npm(setting, "fei"), "--export", "-S", key_file, "-R", "__ROOT__", "-E", port, "-F", "export.json"]


def node_import_export(setting):
    command = [npm(setting, "firestore-export"), "-a", str(setting.key_file)]
    return command + ["-b", str(setting.output / "export.json")]


def python_backup(setting):
    command = [str(setting.peers / "venv/bin/firestore-backup"), "export", "--emulator", setting.host]
    command += ["--project", setting.project, "--format", "ndjson"]
    return command + ["--output", str(setting.output / "export.ndjson")]


def firebackup(setting):
    repository = f"file://{setting.output}/repository"
    return [str(setting.firebackup), "backup", "--json", "--repo", repository, "--project", setting.project]


def prepare(name, setting):
    """What a user does once, before any backup, and what therefore is not measured: FireBackup's repository is made."""
    if name == FIREBACKUP:
        command = [str(setting.firebackup), "init", "--quiet", "--repo", f"file://{setting.output}/repository"]
        subprocess.run(command, env=setting.environment(), stdin=subprocess.DEVNULL, check=True)


def make_master_key():
    return base64.b64encode(os.urandom(32)).decode()


PEERS = {
    "firestore-backfire 2.6.0": backfire,
    "firestore-export-import 1.7.0": export_import,
    "@endran/firestore-export-import 0.9.1": endran,
    "node-firestore-import-export 1.1.0": node_import_export,
    "firestore-backup 1.0.0 (PyPI)": python_backup,
}


def documents_written(name, setting, log):
    """How many documents the tool wrote: markers in a peer's files; FireBackup's files are sealed, so its own word."""
    if name == FIREBACKUP:
        text = log.read_text(errors="replace")
        said = re.search(r'"documents":\s*(\d+)', text) or re.search(r"([\d,]+) documents", text)
        return int(said.group(1).replace(",", "")) if said else 0
    files = [file for file in setting.output.rglob("*") if file.is_file() and file != log]
    return len(set().union(*(seed.MARKER.findall(file.read_bytes()) for file in files)))


def make_key_file(file, project):
    """A service account file whose key is made up: the peers insist on one, the emulator looks at none."""
    program = (
        "const {privateKey} = require('crypto').generateKeyPairSync('rsa', {modulusLength: 2048, "
        "privateKeyEncoding: {type: 'pkcs8', format: 'pem'}, publicKeyEncoding: {type: 'spki', format: 'pem'}});"
        "const [file, project] = process.argv.slice(1);"
        "require('fs').writeFileSync(file, JSON.stringify({type: 'service_account', project_id: project, "
        "private_key_id: '1', private_key: privateKey, client_email: `bench@${project}.iam.gserviceaccount.com`, "
        "client_id: '1', token_uri: 'https://oauth2.googleapis.com/token'}), {mode: 0o600})"
    )
    subprocess.run(["node", "-e", program, str(file), project], check=True)
