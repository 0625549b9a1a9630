"""A Ray cluster on this machine with a server for jobs, until its stdin is closed; prints the server's address."""

import logging
import os
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

if __name__ == "__main__":
    for left in (2, 1, 0):
        try:
            context = ray.init(
                address="local",
                num_cpus=4,
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                dashboard_port=int(sys.argv[1]),
                object_store_memory=100 << 20,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            break
        except Exception:  # Ray gives itself 30 seconds, too few on a busy machine
            ray.shutdown()
            if not left:
                raise
    print(f"http://{context.dashboard_url}", flush=True)
    sys.stdin.read()
    ray.shutdown()
