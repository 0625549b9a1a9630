"""Programs made of answers, run in the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from mamba_slm.tasks.sandbox.limits import SandboxLimits
from mamba_slm.tasks.sandbox.program import Ending, run_in_sandbox
from mamba_slm.tasks.sandbox.proof import proven_walls


def judge_programs(
    programs: Sequence[str],
    limits: SandboxLimits,
    *,
    workers: int = 1,
    on_ending: Callable[[int, Ending], None] = lambda number, ending: None,
) -> list[Ending]:
    """How each program ended; each of `workers` at a time has the limits for itself.

    Args:
        on_ending: told the number of each program with its ending as it comes, in the caller's thread.

    Raises:
        SetupError: this machine has no sandbox; no program ran.
    """
    walls = proven_walls()
    endings: dict[int, Ending] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = {
            pool.submit(run_in_sandbox, program, limits, walls=walls): number for number, program in enumerate(programs)
        }
        try:
            for done in as_completed(running):
                number = running[done]
                endings[number] = done.result()
                on_ending(number, endings[number])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [endings[number] for number in range(len(programs))]
