"""The engines by their names."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from mamba_slm.core.errors import UnknownNameError
from mamba_slm.data.engine.engine import Engine
from mamba_slm.data.engine.ledger import Reporting
from mamba_slm.data.engine.limits import EngineLimits
from mamba_slm.data.engine.local import local_engine
from mamba_slm.data.engine.slurm_job import SlurmConfig

EngineKind = Literal["local", "ray", "slurm"]
ENGINES: tuple[EngineKind, ...] = ("local", "ray", "slurm")


def open_engine(
    kind: EngineKind,
    workers: int,
    *,
    folder: Path,
    configuration: str,
    limits: EngineLimits | None = None,
    reporting: Reporting | None = None,
    slurm: SlurmConfig | None = None,
) -> AbstractContextManager[Engine]:
    """An engine for the tasks of one folder of work, for use with `with`.

    Args:
        kind: local: processes of this machine, 1 worker being this process. ray: the cluster of RAY_ADDRESS, or one on
            this machine. slurm: job arrays; SBATCH_PARTITION and its like hold as well.
        workers: tasks at a time.
        folder: of the manifest; for ray and slurm, all machines see it, and where the tasks read and write.
        configuration: fingerprint of everything that the result depends on.

    Raises:
        UnknownNameError: there is no such engine.
        ConfigError, MissingDependencyError, DataError, RunLockedError: as the engines.
    """
    if kind == "local":
        return local_engine(workers, folder=folder, configuration=configuration, limits=limits, reporting=reporting)
    if kind == "ray":
        from mamba_slm.data.engine.ray_cluster import RayEngine

        return RayEngine(workers, folder=folder, configuration=configuration, limits=limits, reporting=reporting)
    if kind == "slurm":
        from mamba_slm.data.engine.slurm import SlurmEngine

        return SlurmEngine(
            workers, folder=folder, configuration=configuration, limits=limits, reporting=reporting, slurm=slurm
        )
    raise UnknownNameError("engine", kind, ENGINES)
