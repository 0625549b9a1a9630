"""A process that owns a run until SIGINT: `python owner_process.py RUN [ignore]`. Prints when it has the lock."""

import signal
import sys
import threading

from mamba_slm.runs import lock

stop = threading.Event()
if "ignore" not in sys.argv:
    signal.signal(signal.SIGINT, lambda *_: stop.set())
else:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
lock.HEARTBEAT_SECONDS = 0.05
with lock.RunLock(sys.argv[1], command="mamba-slm train nano"):
    print("owned", flush=True)
    while not stop.wait(0.02):
        pass
print("stopped", flush=True)
