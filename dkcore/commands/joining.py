"""``dkcore join`` and ``dkcore leave``: more workers for a job that runs, and fewer."""

from pathlib import Path

import click

__all__ = ["join", "leave"]

JOB = click.argument("job", type=click.Path(exists=True, file_okay=False, path_type=Path))
WORKERS = click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many.")


@click.command()
@JOB
@WORKERS
def join(job: Path, workers: int) -> None:
    """Add workers on this machine to a job that runs. JOB: its directory.

    They train until the job's own workers have finished, or until `dkcore leave`. The job must have been started with
    --on-worker-loss restart or shrink.
    """
    from dkcore.seats.requests import ask

    click.echo(ask(job, "join", workers))


@click.command()
@JOB
@WORKERS
def leave(job: Path, workers: int) -> None:
    """Let workers of a job on this machine finish their window, and go. JOB: its directory.

    Those that have joined go first, then those that the job began with. One of these stays.
    """
    from dkcore.seats.requests import ask

    click.echo(ask(job, "leave", workers))
