"""Measures how long each tool takes to export one seeded project from the Firestore emulator.

A JSON line a measurement goes to standard output: {peer, seconds, documents, peak_rss_mb, exit_code}; the table, with how many
times longer each tool took than FireBackup, goes to standard error. `peak_rss_mb` has a floor of this program's own
size (about 20 MB). All tools read the same emulator, warmed up first, one after the other: the emulator is most of
what a fast tool waits for.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import emulator
import seed
import tools

PROJECT = "demo-peers"


def arguments():
    parser = argparse.ArgumentParser(description="Measure FireBackup and its peers on the Firestore emulator.")
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder with node_modules and venv")
    parser.add_argument("--firebackup", type=pathlib.Path, required=True, help="the firebackup program")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=1, help="how often each tool runs; all are measured in turn")
    parser.add_argument("--limit", type=float, default=300, help="seconds after which a run is killed")
    parser.add_argument("--only", help="measure only tools whose name holds this")
    return parser.parse_args()


def wait(process, limit):
    """The exit code (nothing when it had to be killed) and what it used."""
    deadline = time.monotonic() + limit
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            return None, os.wait4(process.pid, 0)[2]
        time.sleep(0.005)


def measure(name, command, setting, limit):
    """Runs one tool once and says what came of it."""
    shutil.rmtree(setting.output, ignore_errors=True)
    setting.output.mkdir(parents=True)
    tools.prepare(name, setting)
    log = setting.output / "log.txt"
    with open(log, "wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command(setting),
            env=setting.environment(),
            cwd=setting.output,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        exit_code, usage = wait(process, limit)
        seconds = time.monotonic() - started
    scale = 1024 if sys.platform.startswith("linux") else 1024 * 1024
    return {
        "peer": name,
        "seconds": round(seconds, 2),
        "documents": tools.documents_written(name, setting, log),
        "peak_rss_mb": round(usage.ru_maxrss / scale),
        "exit_code": exit_code,
    }


def measure_all(options, host, folder):
    key_file = folder / "service-account.json"
    tools.make_key_file(key_file, PROJECT)
    chosen = {name: command for name, command in tools.PEERS.items() if not options.only or options.only in name}
    # FireBackup is always measured: the ratio is taken against it.
    chosen[tools.FIREBACKUP] = tools.firebackup
    setting = tools.Setting(
        host, PROJECT, options.peers, key_file, folder / "output", options.firebackup, tools.make_master_key()
    )
    results = []
    for _ in range(options.runs):
        for name, command in chosen.items():
            results.append(measure(name, command, setting, options.limit))
            print(json.dumps(results[-1]), flush=True)
            if results[-1]["exit_code"] != 0 or results[-1]["documents"] != options.documents:
                print((setting.output / "log.txt").read_text(errors="replace")[-2000:], file=sys.stderr)
    return results


def table(results, documents):
    """One line a tool: its best run, and its time as a multiple of FireBackup's best."""
    best = {}
    for result in sorted(results, key=lambda result: result["seconds"]):
        best.setdefault(result["peer"], result)
    ours = best[tools.FIREBACKUP]
    lines = [f"{'tool':40} {'s':>8} {'docs/s':>8} {'documents':>10} {'peak MB':>8} {'exit':>5} {'times ours':>11}"]
    for name, result in sorted(best.items(), key=lambda item: item[1]["seconds"]):
        complete = result["documents"] == documents and result["exit_code"] == 0
        ratio = f"{result['seconds'] / ours['seconds']:.1f}" if complete else "incomplete"
        code = "kill" if result["exit_code"] is None else result["exit_code"]
        speed = result["documents"] / result["seconds"]
        lines.append(
            f"{name:40} {result['seconds']:8.2f} {speed:8.0f} {result['documents']:10} {result['peak_rss_mb']:8} "
            f"{code:>5} {ratio:>11}"
        )
    return "\n".join(lines)


def main():
    options = arguments()
    options.peers = options.peers.resolve()
    options.firebackup = options.firebackup.resolve()
    if not options.firebackup.is_file():
        raise SystemExit(f"there is no program at {options.firebackup}: build it first")
    folder = options.peers / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with emulator.running(folder) as host:
        print(f"seeding {options.documents} documents of about 1 KB on {host}", file=sys.stderr)
        seed.seed(host, PROJECT, options.documents)
        found = seed.read_all(host, PROJECT)
        if found != options.documents:
            raise SystemExit(f"seeded {options.documents} documents, but the emulator returns {found}")
        results = measure_all(options, host, folder)
    print(f"\n{options.documents} documents, best of {options.runs}, Firestore emulator\n", file=sys.stderr)
    print(table(results, options.documents), file=sys.stderr)
    ours = [result for result in results if result["peer"] == tools.FIREBACKUP]
    if any(result["exit_code"] != 0 or result["documents"] != options.documents for result in ours):
        raise SystemExit("FireBackup did not back everything up: these figures do not count")


if __name__ == "__main__":
    main()
