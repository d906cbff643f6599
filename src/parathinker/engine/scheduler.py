"""Who computes what in the next forward: admission, fair shares, what to do when memory is full.

Requests are served in the order of their arrival. Every admitted request that decodes gets its
tokens in every step; the rest of a step's tokens is divided fairly among those that still have
text to read (chunked prefill), so a long prompt stalls nobody. If memory runs out, the youngest
request gives all of its own back and waits; it computes its tokens anew later and goes on as if
nothing had happened. The oldest request is never sent back, so all of them finish in the end.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from parathinker.engine.kv_pool import KVPool
from parathinker.engine.placement import Placement, StepInput
from parathinker.engine.running import RunningRequest


@dataclass(order=True)
class Job:
    """A request with its place in the queue."""

    arrival: int
    running: RunningRequest = field(compare=False)
    placement: Placement = field(compare=False)

    @property
    def rows(self) -> int:
        """Paths that it may grow side by side; plain text counts as one."""
        return max(1, len(self.running.request.thought_ids))


class Scheduler:
    """Divides forwards and memory among requests.

    Args:
        max_tokens: tokens that a forward takes on, more only where more paths decode.
        max_rows: paths of admitted requests together; further requests wait.
    """

    def __init__(self, pool: KVPool, max_tokens: int, max_rows: int) -> None:
        self._pool, self._max_tokens, self._max_rows = pool, max_tokens, max_rows
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.preemptions = 0

    def add(self, job: Job) -> None:
        """Put a request into the queue."""
        insort(self.waiting, job)

    def remove(self, job: Job, *, discard: bool = False) -> None:
        """Take a request out, wherever it is, and free its memory."""
        if job in self.waiting:
            self.waiting.remove(job)
        else:
            self.running.remove(job)
            job.placement.detach(discard=discard)

    def schedule(self) -> list[tuple[Job, StepInput]]:
        """What each request puts into the next forward; memory for it is taken."""
        self._admit()
        limits = self._limits()
        work: list[tuple[Job, StepInput]] = []
        for job in list(self.running):
            # Younger requests may have been sent back meanwhile.
            if job not in self.running:
                continue
            shares = job.placement.choose(limits[job.arrival])
            if shares and self._make_room(job, job.placement.blocks_for(shares)):
                work.append((job, job.placement.place(shares)))
        return work

    def _admit(self) -> None:
        reading = set().union(*(job.placement.reading for job in self.running))
        rows = sum(job.rows for job in self.running)
        for job in list(self.waiting):
            # Whoever reads the same as another waits for it rather than computing it too.
            if not reading.isdisjoint(job.placement.reading):
                continue
            if self.running and rows + job.rows > self._max_rows:
                break
            job.placement.attach()
            growing = sum(len(other.running.growing) for other in (*self.running, job))
            if self.running and job.placement.blocks_to_go + growing > self._pool.available:
                job.placement.detach()
                break
            self.waiting.remove(job)
            insort(self.running, job)
            rows += job.rows
            reading |= job.placement.reading

    def _limits(self) -> dict[int, int]:
        """Tokens that each request may compute in this step, by arrival."""
        pending = {job.arrival: job.placement.pending for job in self.running}
        limits = {
            job.arrival: pending[job.arrival]
            for job in self.running
            if pending[job.arrival] == len(job.running.growing)
        }
        rest = max(self._max_tokens - sum(limits.values()), 1)
        reading = sorted((n, arrival) for arrival, n in pending.items() if arrival not in limits)
        for place, (wanted, arrival) in enumerate(reading):
            limits[arrival] = min(wanted, max(rest // (len(reading) - place), 1))
            rest -= limits[arrival]
        return limits

    def _make_room(self, job: Job, blocks: int) -> bool:
        """Send younger requests back until there is room; False if the job itself had to go."""
        while blocks > self._pool.available:
            youngest = self.running.pop()
            youngest.placement.detach()
            insort(self.waiting, youngest)
            self.preemptions += 1
            if youngest is job:
                return False
        return True
