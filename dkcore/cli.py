"""The command line: ``dkcore train | run | join | leave | simulate | rules | doctor | clean``."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from dkcore.commands.job_command import JobCommand
from dkcore.commands.joining import join, leave
from dkcore.commands.simulate import simulate
from dkcore.errors import DkcoreError, RankError, expected
from dkcore.version import VERSION

if TYPE_CHECKING:
    from rich.table import Table

    from dkcore.launch.hosts import Host

__all__ = ["main"]

Function = TypeVar("Function", bound=Callable[..., Any])


class Group(click.Group):
    """Errors that dkcore raises on purpose are messages, not tracebacks."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (DkcoreError, ValueError, OSError) as error:
            if os.environ.get("DKCORE_TRACEBACK"):
                raise
            raise Failure(error) from error


class Failure(click.ClickException):
    """An error as the end of a command: the last that is printed is one line that begins with ``Error:``, the cause."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error
        self.exit_code = getattr(error, "exit_code", 1)  # type: ignore[misc]  # click reads it of the instance

    def show(self, file: IO[str] | None = None) -> None:
        if not isinstance(self.error, RankError):
            super().show(file)
        elif self.error.cause:  # its last line is that one
            click.echo(self.message, file, err=True)
        else:  # on a line of its own: a rank that was killed may have left half a line
            click.echo(f"\nError: {self.message}", file, err=True)


def with_hosts(command: Function) -> Function:
    """The options that say where ranks run."""
    options = (
        click.option("--hosts", metavar="A:2,B:2", help="Hosts with their slots, reached by ssh. [default: this machine]"),
        click.option("--hostfile", type=click.Path(exists=True, dir_okay=False), help="The same in lines: `a:2` or `a slots=2`."),
        click.option("--mpi", default="auto", show_default=True, help="auto, mpich, openmpi, site, or a path to mpiexec."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_hosts(hosts: str | None, hostfile: str | None) -> "list[Host] | None":
    """Of --hosts and --hostfile."""
    from dkcore.launch.hosts import parse_hosts, read_hostfile

    if hosts and hostfile:
        raise ValueError(expected("--hosts or --hostfile", "both", "Pass one."))
    return parse_hosts(hosts) if hosts else read_hostfile(hostfile) if hostfile else None


@click.group(cls=Group, commands=[simulate, join, leave], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="dkcore")
def main() -> None:
    """Asynchronous distributed training of Keras models through one center variable in shared memory."""


@main.command(cls=JobCommand)
@click.option("--model", required=True, help="FILE.py:FUNCTION that returns a Keras model, or FILE.keras.")
@click.option("--data", required=True, help="mnist, or FILE.npz with x_train, y_train and, to evaluate, x_test, y_test.")
@click.option("--trainer", default="ADAG", show_default=True, help="ADAG, AEASGD, DOWNPOUR, DynSGD, EAMSGD, ..., or a rule.")
@with_hosts
@click.option("--out", type=click.Path(path_type=Path), default=Path("dkcore-out"), show_default=True, help="Where results go.")
@click.option("--quiet", is_flag=True, help="No progress bar, no table.")
def train(out: Path, quiet: bool, mpi: str, hosts: str | None, hostfile: str | None, workers: int | None, **options: Any) -> None:
    """Train a Keras model with several workers; model, history, report and plot go to --out.

    Under mpirun or srun each rank calls this, and they train together.
    """
    from dkcore.commands.options import job_of
    from dkcore.launch.mpi import is_rank

    if options["checkpoint_every"] is not None and options["checkpoint"] is None:
        options["checkpoint"] = str(out / "checkpoints")
    if is_rank(os.environ):
        from dkcore.commands.in_ranks import train_inside

        seats, make = options["on_worker_loss"] != "stop", lambda directory, size: job_of(directory, workers=size, **options)
        summary = train_inside(out, make, workers, hosts or hostfile, seats=seats)
    else:
        summary = train_outside(out, not quiet, mpi, chosen_hosts(hosts, hostfile), workers, options)
    if summary and not quiet:
        from rich.console import Console

        Console().print(summary_table(summary))
        click.echo(f"{out}/model.keras  history.parquet  report.json  report.png")


def train_outside(
    out: Path, show: bool, mpi: str, hosts: "list[Host] | None", workers: int | None, options: dict[str, Any]
) -> dict[str, Any] | None:
    """Start the ranks of a training, wait for them, and deliver what they leave; the report, None when a signal has ended it."""
    import tempfile

    from dkcore.commands.going_on import how_to_go_on
    from dkcore.commands.options import job_of
    from dkcore.launch.allocation import shared_folder
    from dkcore.launch.hosts import count_ranks, place
    from dkcore.training import results
    from dkcore.training.job import JOB
    from dkcore.training.stopping import stopped_at

    results.prepare(out)
    workers = count_ranks(hosts, workers, None)
    if hosts and workers is not None and workers > 0:
        place(hosts, workers)  # refuses too many before the data are read
    with tempfile.TemporaryDirectory(prefix=JOB, dir=shared_folder(hosts, out)) as directory:
        job = job_of(directory, workers=workers, **options)
        job.launch(mpi=mpi, hosts=hosts, show=show, temporary=True)
        if (stopped := stopped_at(job.home)) is not None:
            click.echo(how_to_go_on(stopped))
            return None
        return results.deliver(job, out)


def summary_table(summary: dict[str, Any]) -> "Table":
    """What a person wants to see of a report."""
    from rich.table import Table

    table = Table(show_header=False)
    share = f"{summary['exchange_share'] or 0:.2%}"
    texts = {
        "trainer": "{trainer}, {workers} workers, window {window}, {backend} ({replica})".format(**summary),
        "samples": f"{summary['samples']:,} in {summary['epochs']} epochs",
        "training": f"{summary['training_time_s']:.1f} s after {summary['startup_s']:.1f} s of start-up",
        "throughput": f"{summary['samples_per_s'] or 0:,.0f} samples/s",
        "exchanges": f"{summary['exchanges']:,}, {share} of the time, staleness {summary['mean_staleness']:.2f}",
    }
    if summary["nodes"] > 1:
        sent, ratio = summary["merge_bytes_sent"] / 1e6, summary["merge_bytes_ratio"] or 1
        texts["merges"] = f"{summary['merges']:,} of {summary['nodes']} nodes, {sent:,.1f} MB sent ({ratio:.1%} of plain)"
    if summary["resumed"]:
        texts["resumed"] = summary["resumed"].removeprefix("resumed ")
    if summary["test_loss"] is not None:
        accuracy = "" if summary["test_accuracy"] is None else f", accuracy {summary['test_accuracy']:.4f}"
        texts["test"] = f"loss {summary['test_loss']:.4f}{accuracy}"
    for name, text in texts.items():
        table.add_row(name, text)
    return table


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-n", "--workers", type=int, help="Ranks to start. [default: the slots of all hosts; without hosts 2]")
@with_hosts
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(workers: int | None, mpi: str, hosts: str | None, hostfile: str | None, script: str, arguments: tuple[str, ...]) -> None:
    """Run a Python script on several ranks, each with its fair share of cores, supervised.

    Under mpirun or srun each rank calls this, and the script runs in those. With hosts, they must share the current folder.
    """
    import tempfile

    from dkcore.launch.allocation import shared_folder
    from dkcore.launch.hosts import count_ranks
    from dkcore.launch.launch import launch
    from dkcore.launch.mpi import is_rank

    if is_rank(os.environ):
        from dkcore.commands.in_ranks import run_inside

        return run_inside(script, arguments, workers, hosts or hostfile)
    chosen = chosen_hosts(hosts, hostfile)
    asked, where = count_ranks(chosen, workers, None), shared_folder(chosen, Path.cwd())
    ranks = 2 if asked is None else asked
    with tempfile.TemporaryDirectory(prefix=".dkcore-run-", dir=where) as directory:
        try:
            launch([script, *arguments], ranks, directory=directory, mpi=mpi, hosts=chosen, output="inherit", temporary=True)
        except RankError as error:  # its ranks have printed their tracebacks here
            raise error.closing() from error


@main.command()
def rules() -> None:
    """Show the built-in rules with formula and source."""
    import inspect

    from rich.console import Console
    from rich.table import Table

    from dkcore.formula.rule import Rule
    from dkcore.rules import METHODS, REGISTRY

    table = Table("rule", "formula", "scalars", "source", show_lines=True)
    known = REGISTRY | METHODS
    for name, rule in known.items():
        if name != rule.name:
            continue
        formulas = [rule.formula] if isinstance(rule, Rule) else [rule.gather.formula, rule.outer.formula]
        lines = [line for formula in formulas if formula for line in inspect.getsource(formula).splitlines()]
        body = [line.strip() for line in lines if line.startswith("    ") and '"""' not in line]
        scalars = ", ".join(f"{scalar}={rule.defaults[scalar]:g}" if scalar in rule.defaults else scalar for scalar in rule.scalars)
        aliases = [alias for alias, other in known.items() if other is rule and alias != name]
        table.add_row("\n".join([name, *aliases]), "\n".join(body), scalars, rule.doc)
    Console().print(table)


@main.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it; exits 1 when something needed is missing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from dkcore.commands.doctor import examine

    table, healthy = Table("", "what", "found", "to mend"), True
    for finding in examine():
        mark = "[green]ok" if finding.ok else ("[red]missing" if finding.needed else "[yellow]absent")
        table.add_row(mark, finding.what, escape(finding.found), "" if finding.ok else escape(finding.mend))
        healthy &= finding.ok or not finding.needed
    Console().print(table)
    sys.exit(0 if healthy else 1)


@main.command()
def clean() -> None:
    """Remove what dead processes left in shared memory; what lives stays."""
    from dkcore.engine.segments import sweep_orphans

    removed = sweep_orphans()
    click.echo(f"removed {len(removed)}: {', '.join(removed)}" if removed else "nothing to remove")
