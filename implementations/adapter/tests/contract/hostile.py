"""Adapters that break the contract, each in one way: `hostile.py WAY`. Without a way it keeps the contract."""
import json
import os
import signal
import subprocess
import sys
import time

WAY = sys.argv[1] if len(sys.argv) > 1 else "honest"


# Each within the contract's limits for one process: 10 000 lines, 8 MiB.
MOST_LINES = 10_000

FEATURES = {"unknown-feature": ["sidecar", "egress-gatway"], "declares-a-log": ["sidecar", "access-log"]}


def say(**message):
    print(json.dumps(message), flush=True)


def daemon(folder):
    """Starts a process that leaves the session and keeps all pipes."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open(os.path.join(folder, "daemon.number"), "w") as note:
        note.write(str(child.pid))


def hide(folder):
    """Starts a process that leaves the session, clears its environment and keeps standard output open."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, env={},
                             stderr=subprocess.DEVNULL)
    with open(os.path.join(folder, "daemon.number"), "w") as note:
        note.write(str(child.pid))


def terminal():
    """Whether the controlling terminal can be opened."""
    try:
        os.close(os.open("/dev/tty", os.O_WRONLY))
        return "a terminal"
    except OSError as error:
        return "no terminal: %s" % error


def raw(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def hello(message):
    folder = message["folder"]
    with open(os.path.join(folder, "leader.number"), "w") as note:
        note.write(str(os.getpid()))
    if WAY == "dies-at-hello":
        print("no licence found", file=sys.stderr, flush=True)
        sys.exit(7)
    if WAY == "silent":
        return
    if WAY == "daemon-and-exit":
        daemon(folder)
        sys.exit(0)
    if WAY == "leaves-daemon":
        daemon(folder)
    if WAY == "hides-a-process":
        hide(folder)
    if WAY == "opens-the-terminal":
        print(terminal(), file=sys.stderr, flush=True)
    if WAY == "slow-after-the-first-start":
        started = os.path.join(os.environ["MESHPROOF_TEST_FOLDER"], "started")
        if os.path.exists(started):
            time.sleep(600)
        open(started, "w").close()
    if WAY == "garbage":
        raw(b"Starting up, please wait...\n")
    if WAY == "invalid-utf8":
        raw(b'{"type":"hello","contract":1,"name":"\xff\xfe","version":"1","features":[]}\n')
    if WAY == "unknown-type":
        say(type="greetings")
    if WAY == "huge-line":
        chunk = b"x" * (1 << 20)
        for _ in range(1024):
            raw(chunk)
        raw(b"\n")
    if WAY == "floods-stderr":
        for _ in range(64):
            sys.stderr.write("y" * (1 << 20))
        sys.stderr.flush()
    if WAY == "closes-stdout":
        os.close(1)
        time.sleep(600)
    contract = 2 if WAY == "wrong-contract" else 1
    say(type="hello", contract=contract, name="hostile", version="1", features=FEATURES.get(WAY, ["sidecar"]))
    if WAY == "unasked":
        say(type="settled")
    if WAY == "deaf":
        time.sleep(600)


applied = False


def apply(message):
    global applied
    applied = True
    revision = message["revision"]
    if WAY == "dies-in-the-middle":
        print("out of memory", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if WAY == "hangs-in-the-middle":
        time.sleep(600)
    if WAY == "million-lines":
        for number in range(1_000_000):
            say(type="log", proxy="sleep", line="line %d" % number)
    if WAY == "fills-the-log":
        for number in range(MOST_LINES // 2):
            say(type="log", proxy="sleep", line="%d %s" % (number, "z" * 1500))
    if WAY == "long-lines":
        for number in range(100):
            say(type="log", proxy="sleep", line="z" * 500_000)
    if WAY == "logs-for-another-proxy":
        say(type="log", proxy="another", line="a line")
    if WAY == "prints-keys":
        with open(message["identities"]["sleep"]["key"]) as file:
            key = file.read()
        print(key, file=sys.stderr, flush=True)
        say(type="log", proxy="sleep", line=key)
        return say(type="rejected", revision=revision, reason="the key " + key)
    if WAY == "rejects":
        return say(type="rejected", revision=revision, reason="address already in use")
    if WAY == "unsupported":
        return say(type="unsupported", revision=revision, feature="mesh-mtls")
    if WAY == "unsupported-with-an-unknown-name":
        return say(type="unsupported", revision=revision, feature="mesh-mtl")
    if WAY == "unsupported-though-declared":
        return say(type="unsupported", revision=revision, feature="sidecar")
    say(type="applied", revision=revision + (1 if WAY == "wrong-revision" else 0), took="1 ms")


def main():
    if WAY == "ignores-stop":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        message = json.loads(line)
        kind = message["type"]
        if kind == "hello":
            hello(message)
        elif kind == "apply" and WAY == "knows-no-apply":
            pass
        elif kind == "apply":
            apply(message)
        elif kind == "credentials":
            proxy = "another" if WAY == "wrong-proxy" else message["proxy"]
            say(type="credential-status", proxy=proxy, credentials=[])
        elif kind == "settle":
            say(type="log", proxy="sleep", line="a line before settled")
            say(type="settled")
            if WAY == "dies-after-settling":
                os._exit(3)
        elif kind == "stop":
            if WAY == "ignores-stop":
                time.sleep(600)
            if WAY == "dies-at-the-end" and applied:
                os._exit(9)
            if WAY == "exits-without-stopped":
                return
            say(type="stopped")
            if WAY == "stays-after-stopped":
                time.sleep(600)
            return
    if WAY == "stays-after-its-input":
        time.sleep(600)


main()
