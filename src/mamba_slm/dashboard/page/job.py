"""One job: its command and what it says."""

from __future__ import annotations

from mamba_slm.dashboard.page.layout import Place, command_line, page, section
from mamba_slm.dashboard.page.markup import tag
from mamba_slm.runs.jobs import Job


def job_page(place: Place, home: int, job: Job) -> str:
    """The page of a job; its script keeps it fresh."""
    return page(
        place,
        "",
        f"Job {int(job.id)}",
        tag(
            "div",
            tag("h1", f"Job {int(job.id)}"),
            tag("span", job.state, id="state", class_="state", data_state=job.state),
            tag("span", f"in {job.folder}", class_="hint"),
            tag("div", id="actions", class_="actions"),
            class_="heading",
        ),
        command_line(job.command, id="command"),
        section("What it says", tag("pre", id="log-text", tabindex="0", role="log", aria_label="End of the log")),
        script="job.js",
        home=home,
        id=job.id,
    )
