"""What the checks share: where things are, and how a program is asked."""
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
# The programs of tools/requirements.txt.
BIN = Path(sys.executable).parent
WINDLASS = Path(os.environ.get("WINDLASS", TOP / "target/debug/windlass")).resolve()
# As in the images and manifests.
USER = 10001


def command(*words, **options):
    """Runs a program; its exit code and everything that it said."""
    words = [str(w) for w in words]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    return done.returncode, done.stdout


def said(*words, **options):
    """What a program complained about, as problems; none if it exits 0."""
    code, text = command(*words, **options)
    return [line for line in text.splitlines() if line.strip()] or ["exit code %d" % code] if code else []
