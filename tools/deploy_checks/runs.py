"""What the containers run, without containers: as root within the same limits."""
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from .common import TOP, USER, WINDLASS, command
from .dockerfile import one, stages

ANVIL = TOP / "contracts/bin/anvil"
# How long a service may take until it is healthy.
PATIENCE = 20

# Bind mounts of its own, so nothing outside sees them: all read-only but the volume and /tmp's stand-in.
BOX = r"""
volume=$1 scratch=$2; shift 2
mount --make-rprivate /
mount --bind "$volume" "$volume"
mount -t tmpfs -o mode=1777 tmpfs "$scratch"
awk '{print $5}' /proc/self/mountinfo | sort -u | while read -r at; do
    case $at in /proc* | /sys* | /dev* | "$volume" | "$scratch") ;; *) mount -o remount,bind,ro "$at" || exit 1 ;; esac
done
if touch /etc/.windlass-box 2>/dev/null; then echo "the root file system is writable" >&2; exit 1; fi
cd "$volume"
exec setpriv --reuid USER --regid USER --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
    env -i PATH="$PATH" HOME="$scratch" TMPDIR="$scratch" "$@"
""".replace("USER", str(USER))


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Manager:
    """The service manager's side of Type=notify and WatchdogSec=: a socket that hears what a service says of itself."""

    def __init__(self, path, boxed):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        if boxed:
            os.chown(path, USER, USER)

    def told(self):
        """The variables that systemd sets, with a watchdog of two seconds."""
        return [f"NOTIFY_SOCKET={self.path}", "WATCHDOG_USEC=2000000"]

    def hears(self, state, seconds=10):
        """Waits for a state; what is said before it is passed over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                if state in self.socket.recv(4096).decode().splitlines():
                    return
            except TimeoutError:
                break
        raise AssertionError(f"the service manager was not told {state}")


class Site:
    """The volumes and processes of compose.yml on this machine."""

    def __init__(self, root, folder):
        self.root, self.folder, self.boxed = root, folder, os.geteuid() == 0
        self.ports = {p: str(free_port()) for p in ("1883", "8545", "9477")}
        self.volume, self.scratch, self.etc = folder / "volume", folder / "scratch", folder / "etc"
        for place in (self.volume, self.scratch, self.etc, self.volume / "anvil"):
            place.mkdir()
        # As the image has it.
        (self.volume / "devices.toml").touch(mode=0o600)
        if self.boxed:
            folder.chmod(0o755)
            for place in (self.volume, *self.volume.iterdir()):
                os.chown(place, USER, USER)
        file = yaml.safe_load((root / "deploy/compose.yml").read_text())
        for name, secret in file["secrets"].items():
            shutil.copyfile(root / "deploy" / secret["file"], self.etc / name)
        self.config = self.etc / "windlass.toml"
        self.config.write_text(self.here((root / "deploy/compose/windlass.toml").read_text()))
        self.deploying = self.here_all(file["services"]["deploy"]["command"])
        self.grace = int(file["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
        chain, gateway = [s for s in stages(root) if one(s, "ENTRYPOINT")]
        self.chain = self.here_all([*json.loads(one(chain, "ENTRYPOINT")), *json.loads(one(chain, "CMD"))])
        self.running = self.here_all(json.loads(one(gateway, "CMD")))
        self.interrupt = getattr(signal, one(chain, "STOPSIGNAL"))
        self.health = {n: self.here_all(file["services"][n]["healthcheck"]["test"][2:]) for n in ("anvil", "gateway")}
        self.manager = Manager(self.volume / "notify.sock", self.boxed)
        self.processes = []

    def here(self, text):
        """Paths and addresses of the containers as they are on this machine."""
        for there, place in (("/var/lib/windlass", self.volume), ("/var/lib/anvil", self.volume / "anvil"),
                             ("/run/secrets", self.etc), ("/etc/windlass", self.etc), ("0.0.0.0", "127.0.0.1"),
                             ("//anvil:", "//127.0.0.1:")):
            text = text.replace(there, str(place))
        return re.sub(r"\b(1883|8545|9477)\b", lambda m: self.ports[m.group(1)], text)

    def here_all(self, words):
        return [self.here(word) for word in words]

    def boxing(self, words):
        """The words that run a program within the containers' limits."""
        words = [str(w) for w in words]
        if not self.boxed:
            return words
        return ["unshare", "--mount", "bash", "-euc", BOX, "box", str(self.volume), str(self.scratch), *words]

    def run(self, *words, wanted=0):
        """Runs to the end; raises when the exit code is another one."""
        code, text = command(*self.boxing(words), timeout=120)
        if code != wanted:
            raise AssertionError(f"{shlex.join(map(str, words[1:]))}: exit code {code}: {text.strip()[-600:]}")
        return text

    def windlass(self, *words, wanted=0):
        return self.run(WINDLASS, *words, "--config", self.config, wanted=wanted)

    def start(self, name, *words):
        """Starts a service and waits for its healthcheck."""
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(self.boxing(words), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        until = time.monotonic() + PATIENCE
        while (answer := self.healthy(self.health[name]))[0] != 0:
            if process.poll() is not None or time.monotonic() > until:
                last = (self.folder / f"{name}.log").read_text()[-600:]
                raise AssertionError(f"{name} is not healthy: {answer[1].strip()}: {last}")
            time.sleep(0.2)
        return process

    def healthy(self, words):
        return command(*self.boxing(["bash", self.root / "deploy/healthcheck.sh", *words]))

    def begin(self):
        """The node and the gateway, as compose.yml orders them."""
        chain = self.start("anvil", ANVIL, *self.chain[1:], "--port", self.ports["8545"])
        deployed = self.run(WINDLASS, *self.deploying)
        return chain, deployed, self.start("gateway", "env", *self.manager.told(), WINDLASS, *self.running)

    def end(self, process, how, grace):
        """Stops a service as its engine does; its exit code."""
        process.send_signal(how)
        return process.wait(grace)

    def until(self, what, seconds, question):
        end = time.monotonic() + seconds
        while not question():
            if time.monotonic() > end:
                raise AssertionError(what)
            time.sleep(0.3)


def live(site):
    """Deploys, adds a device, settles, backs up, stops, goes on, and restores; in the words of docs/deployment.md."""
    chain, _, gateway = site.begin()
    site.manager.hears("READY=1")
    site.manager.hears("WATCHDOG=1")
    gateway.send_signal(signal.SIGHUP)
    site.manager.hears("RELOADING=1")
    site.manager.hears("READY=1")
    added = site.windlass("device", "add", "dock-7", "--format", "gtin", "--settlement", "batch")
    secret = re.search(r"secret ([0-9a-f]{64})", added).group(1)

    def publish():
        return command("mosquitto_pub", "-V", "mqttv5", "-q", "1", "-p", site.ports["1883"], "-i", "dock-7",
                       "-u", "dock-7", "-P", secret, "-t", "devices/dock-7/readings", "-m", "4006381333931",
                       timeout=20)

    def states():
        lines = site.windlass("readings", "--json").splitlines()
        return [json.loads(line)["state"] for line in lines if line.startswith("{")]

    if (told := publish())[0]:
        raise AssertionError(f"publishing: {told[1]}")
    site.until("a reading did not become final", 60, lambda: states() == ["final"])
    site.until("the gateway is not ready", 20, lambda: site.healthy(["ready", site.ports["9477"]])[0] == 0)
    copy = site.volume / "backup.sqlite"
    site.windlass("backup", copy)
    site.windlass("fsck", "--journal", copy)
    site.windlass("fsck", "--rpc", "config")
    if (code := site.end(gateway, signal.SIGTERM, site.grace)) != 0:
        raise AssertionError(f"the gateway ended with {code}")
    site.manager.hears("STOPPING=1")
    site.end(chain, site.interrupt, 30)
    chain, deployed, gateway = site.begin()
    if "already deployed" not in deployed:
        raise AssertionError("the contract was deployed again")
    if publish()[0]:
        raise AssertionError("publishing after a restart")
    site.until("a second reading did not become final", 60, lambda: states() == ["final", "final"])
    site.end(gateway, signal.SIGTERM, site.grace)
    # The copy is older than the chain now, and fsck has to say so.
    for name in ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"):
        (site.volume / name).unlink(missing_ok=True)
    site.run("cp", copy, site.volume / "journal.sqlite")
    site.windlass("fsck")
    site.windlass("fsck", "--rpc", "config", wanted=1)


def accepted(site, root):
    """The ConfigMap's config, with keystores made for it, is accepted by the binary and fits a chain."""
    manifest = yaml.safe_load((root / "deploy/kubernetes/configmap.yaml").read_text())
    text = manifest["data"]["windlass.toml"].replace("/etc/windlass-keys", str(site.volume))
    text = text.replace("http://ethereum:", "http://anvil:")
    text = text.replace('data_dir = "/var/lib/windlass"', 'data_dir = "/var/lib/windlass/k8s"')
    path = site.etc / "kubernetes.toml"
    path.write_text(site.here(text))
    (site.volume / "devices.toml").write_text("")
    for name in ("devices", "submitter"):
        for ending in ("json", "pass"):
            (site.volume / f"{name}.{ending}").unlink(missing_ok=True)
    site.run(WINDLASS, "keys", "create", "--keystore", site.volume / "devices.json",
             "--passphrase-file", site.volume / "devices.pass")
    # ethers spells one key "Crypto"; geth, clef and the gateway "crypto".
    encrypt = """const {Wallet} = require('ethers');
        process.stdout.write(new Wallet(process.argv[1]).encryptSync('pass').replace('"Crypto"', '"crypto"'))"""
    key = (site.etc / "submitter.key").read_text().strip()
    code, keystore = command("node", "-e", encrypt, key, cwd=TOP / "contracts")
    if code:
        raise AssertionError(keystore)
    for name, content in (("json", keystore), ("pass", "pass\n")):
        file = site.volume / f"submitter.{name}"
        file.write_text(content)
        if site.boxed:
            os.chown(file, USER, USER)
    site.run(WINDLASS, "check", "--config", path)


def runs(root):
    """Starts what compose.yml starts and follows docs/deployment.md with it; then the ConfigMap's config."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(root, Path(folder))
        if not site.boxed:
            print("        not root: without the containers' limits")
        try:
            live(site)
            accepted(site, root)
            return []
        except (AssertionError, subprocess.TimeoutExpired) as fault:
            return [str(fault)]
        finally:
            for process in site.processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
