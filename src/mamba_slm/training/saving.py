"""Saving: when a checkpoint is due, who writes what of it, and that it counts only once all of it is on the disk.

A save begins with a moment in which nothing moves: every process puts aside what it will write (a copy on the CPU where
it writes in the background). Then it writes, at once or in a thread while training goes on. Threads never talk to other
processes; at the end of each step the processes tell each other whether they still write, and when none does, the first
one commits: small files, manifest, rename. No second save begins before that. What goes wrong in a thread ends the
run at that same exchange, in all processes, with the earlier checkpoints untouched.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mamba_slm.core.errors import CheckpointError, TrainingDivergedError
from mamba_slm.core.files import disk_full_is_explained
from mamba_slm.model.stored import Piece
from mamba_slm.runs.layout import RunDirectory, step_of
from mamba_slm.training.checkpoint import commit, new_folder, prune_checkpoints, write_own_pieces, write_whole_files
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.distributed.together import raise_together
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.pieces import own_pieces
from mamba_slm.training.rounding import config_note
from mamba_slm.training.save_choices import choose_form, choose_moment

Write = Callable[[Path], dict[str, Any]]
"""Writes this process's files into a folder, and says which."""
LOOK_SECONDS = 0.02
PATIENT_SECONDS = 10.0


class Saver:
    """The checkpoints of one run. Every method that says so is called by all processes at the same time.

    Args:
        engine: what is saved.
        run: where to.
        config: how often, in which form, what is kept.
        before_save: called by the first process before it writes.
        last_good_step: of a checkpoint to keep besides the others; None while there is none.
        tokenizer_file: copied into every checkpoint.
        say: takes lines for people.
        clock: seconds from any start.
    """

    def __init__(
        self,
        engine: Engine,
        run: RunDirectory,
        config: TrainConfig,
        *,
        before_save: Callable[[], None] = lambda: None,
        last_good_step: Callable[[], int | None] = lambda: None,
        tokenizer_file: Path | None = None,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.engine, self.run, self.config, self.world = engine, run, config, engine.world
        self.before_save, self.last_good_step = before_save, last_good_step
        self.tokenizer_file, self.say, self.clock = tokenizer_file, say, clock
        self.is_sharded = choose_form(config, engine.name).value == "sharded"
        self.in_background = choose_moment(config, engine.device).value == "background"
        self.step: int | None = None
        """Of the newest checkpoint, perhaps still being written."""
        self.saved_at = clock()
        self.current: Save | None = None

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after this step, by steps, by time or as a milestone."""
        minutes = self.config.save_every_minutes
        by_time = minutes is not None and self.clock() - self.saved_at >= 60 * minutes
        return by_time or step % self.config.save_every_steps == 0 or self.is_milestone(step)

    def is_milestone(self, step: int) -> bool:
        """Whether the checkpoint after this step is kept forever."""
        every = self.config.milestone_every_steps
        return every is not None and step > 0 and step % every == 0

    def begin(self, step: int, state: Callable[[], dict[str, Any]]) -> Path | None:
        """Put aside all that a checkpoint of now holds, and begin to write it. Called by all processes.

        Args:
            state: gives what the trainer needs besides weights and moments; asked in the first process.

        Returns: the checkpoint that this call completed: the one before, or this one where nothing goes on behind.

        Raises:
            DiskFullError, CheckpointError: see `heed`.
        """
        completed = self.settle()
        folder = self.run.checkpoint_folder(step)

        def prepare() -> str:
            self.before_save()
            return new_folder(folder).name

        writing = self.run.checkpoints_folder / self.world.agree(prepare)
        write = self.pieces_aside() if self.is_sharded else self.whole_aside()
        save = Save(folder, writing, write, state=state() if self.world.is_first else {})
        self.current, self.step, self.saved_at = save, step, self.clock()
        if self.in_background:
            save.start()
            return completed
        save.work()
        return self.settle()

    def pieces_aside(self) -> Write:
        """What writes the pieces of this process."""
        rank, size = self.world.rank, self.world.size
        weights, moments = (own_pieces(held, rank=rank, size=size) for held in self.engine.held())
        if self.in_background:
            weights, moments = copied_pieces(weights), copied_pieces(moments)
        return functools.partial(write_own_pieces, weights=weights, moments=moments, rank=rank, size=size)

    def whole_aside(self) -> Write | None:
        """What writes all of the tensors, in the first process; the others help to collect them."""
        weights, moments = self.engine.weights(), self.engine.moments()
        if not self.world.is_first:
            return None
        if self.in_background:
            weights, moments = copied(weights), copied(moments)
        return functools.partial(write_whole_files, weights=weights, moments=moments)

    def news(self) -> tuple[float, float]:
        """Whether this process still writes, and whether it failed to: to be added up over all processes."""
        if self.current is None:
            return 0.0, 0.0
        return float(self.current.is_writing), float(self.current.error is not None)

    def heed(self, writing: float, failed: float) -> Path | None:
        """Complete the checkpoint when no process writes any more. Called by all processes, with the sums of `news`.

        Returns: the checkpoint completed now; None when there is none.

        Raises:
            DiskFullError, CheckpointError: a process could not write; earlier checkpoints are as they were.
            FailedElsewhereError: the same, in another process than the first.
        """
        save = self.current
        if save is None or writing:
            return None
        self.current = None
        save.join()
        if failed:
            if self.world.is_first:
                shutil.rmtree(save.writing, ignore_errors=True)
            raise_together(self.world, save.error, doing=f"write its part of {save.folder.name}")
        parts = [part for part in self.world.gather(save.written) if part is not None]

        def complete() -> None:
            try:
                with disk_full_is_explained(save.folder):
                    commit(
                        save.writing,
                        save.folder,
                        written=parts,
                        config=self.engine.model.config,
                        config_note=config_note(self.config),
                        state=save.state,
                        tokenizer_file=self.tokenizer_file,
                    )
            except BaseException:
                shutil.rmtree(save.writing, ignore_errors=True)
                raise
            self.prune()

        self.world.agree(complete)
        return save.folder

    def settle(self) -> Path | None:
        """Wait until what is being written is complete. Called by all processes; raises what `heed` raises."""
        began, said = time.monotonic(), False
        while self.current is not None:
            completed = self.heed(*self.world.sum(*self.news()))
            if completed is not None:
                return completed
            self.current.join(LOOK_SECONDS)
            if not said and time.monotonic() - began > PATIENT_SECONDS:
                self.say(f"waiting for {self.current.folder.name} to be written")
                said = True
        return None

    def prune(self) -> None:
        """Keep the newest checkpoints, milestones, the best, and the last good one before a spike."""
        step, found = self.last_good_step(), self.run.checkpoints()
        good = None if step is None else self.run.checkpoint_folder(step)
        milestones = [folder for folder in found if self.is_milestone(step_of(folder))]
        prune_checkpoints(found, keep_last=self.config.keep_last, keep=(self.run.best(), good, *milestones))

    def close(self) -> None:
        """End the thread of a run that ends by an error; alone, what it has written still becomes a checkpoint."""
        if self.current is None:
            return
        self.current.join()
        if self.world.size == 1 and self.current.error is None:
            self.settle()


@contextlib.contextmanager
def saves_completed(saver: Saver) -> Iterator[None]:
    """The block of a run; however it ends, no thread writes afterwards, and what can be completed is."""
    try:
        yield
    except TrainingDivergedError:  # in all processes alike, and its message names the checkpoint
        saver.settle()
        raise
    finally:
        saver.close()


class Save:
    """One checkpoint on its way to the disk, as one process sees it.

    Args:
        folder: what it will be.
        writing: what it is until then.
        write: this process's part; None where it has none.
        state: of the trainer.
    """

    def __init__(self, folder: Path, writing: Path, write: Write | None, *, state: Mapping[str, Any]):
        self.folder, self.writing, self.write, self.state = folder, writing, write, dict(state)
        self.written: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None

    @property
    def is_writing(self) -> bool:
        """Whether the thread is at work."""
        return self.thread is not None and self.thread.is_alive()

    def start(self) -> None:
        """Write in a thread, which ends with the process."""
        if self.write is not None:
            self.thread = threading.Thread(target=self.work, name="checkpoint", daemon=True)
            self.thread.start()

    def work(self) -> None:
        """Write, and keep what went wrong."""
        if self.write is None:
            return
        try:
            if not self.writing.is_dir():
                raise CheckpointError(
                    f"{self.writing} is not there", hint="the run directory must lie on a disk that all machines share"
                )
            with disk_full_is_explained(self.folder):
                self.written = self.write(self.writing)
        except Exception as error:
            self.error = error
        self.write = None  # and with it the copies

    def join(self, seconds: float | None = None) -> None:
        """Wait for the thread, at most this long."""
        if self.thread is not None:
            self.thread.join(seconds)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, which training does not change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def copied_pieces(pieces: Mapping[str, Piece]) -> dict[str, Piece]:
    """`copied`, of pieces."""
    return {name: replace(piece, tensor=piece.tensor.to("cpu", copy=True)) for name, piece in pieces.items()}
