"""deploy/windlass.service."""
import re
import tempfile
from pathlib import Path

from .common import TOP, command

# Times ten: what `systemd-analyze security` says. The rest are sockets, the host's network and its root directory.
EXPOSURE = 11


def unit(root):
    """`systemd-analyze verify` and `security`, and what the binary's notifications need."""
    text = (root / "deploy/windlass.service").read_text()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "windlass.service"
        # The binary is not installed here, and verify looks for it.
        copy.write_text(text.replace("ExecStart=/usr/bin/windlass", "ExecStart=/bin/true"))
        _, words = command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", copy)
        # It warns of unknown keys with exit code 0.
        problems = [line for line in words.splitlines() if "windlass.service" in line]
        code, words = command("systemd-analyze", "security", "--no-pager", "--offline=true",
                              f"--threshold={EXPOSURE}", copy)
        last = words.strip().splitlines()[-1]
        if code:
            problems.append(f"{last} (at most {EXPOSURE / 10} is wanted)")
        elif root == TOP:
            print("        " + last.removeprefix("→ "))
    for line in ("Type=notify", "WatchdogSec=", "ExecReload=", "LimitCORE=0", "RestartPreventExitStatus=64",
                 "StartLimitIntervalSec=0"):
        if not re.search(f"^{line}", text, re.M):
            problems.append(f"no {line}")
    return problems
