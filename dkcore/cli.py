"""The command line: ``dkcore train | run | simulate | rules | doctor | clean``."""

import os
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import dkcore
from dkcore.errors import DkcoreError, expected
from dkcore.rules import REGISTRY
from dkcore.simulate import simulate

__all__ = ["main"]

BACKENDS = ("tensorflow", "jax", "torch")


class Group(click.Group):
    """Errors that dkcore raises on purpose are messages, not tracebacks."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except (DkcoreError, ValueError, OSError) as error:
            if os.environ.get("DKCORE_TRACEBACK"):
                raise
            failure = click.ClickException(str(error))
            failure.exit_code = getattr(error, "exit_code", 1)
            raise failure from error


def with_hosts(command):
    """The options that say where ranks run."""
    options = (
        click.option("--hosts", metavar="A:2,B:2", help="Hosts with their slots, reached by ssh. [default: this machine]"),
        click.option("--hostfile", type=click.Path(exists=True, dir_okay=False), help="The same in lines: `a:2` or `a slots=2`."),
        click.option("--mpi", default="auto", show_default=True, help="auto, mpich, openmpi, site, or a path to mpiexec."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_hosts(hosts: str | None, hostfile: str | None) -> list | None:
    """Of --hosts and --hostfile."""
    from dkcore.hosts import parse_hosts, read_hostfile

    if hosts and hostfile:
        raise ValueError(expected("--hosts or --hostfile", "both", "Pass one."))
    return parse_hosts(hosts) if hosts else read_hostfile(hostfile) if hostfile else None


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dkcore.__version__, prog_name="dkcore")
def main() -> None:
    """Asynchronous distributed training of Keras models through one center variable in shared memory."""


@main.command()
@click.option("--model", required=True, help="FILE.py:FUNCTION that returns a Keras model, or FILE.keras.")
@click.option("--data", required=True, help="mnist, or FILE.npz with x_train, y_train and, to evaluate, x_test, y_test.")
@click.option("--trainer", default="ADAG", show_default=True, help="ADAG, AEASGD, DOWNPOUR, DynSGD, EAMSGD, ..., or a rule.")
@click.option("--workers", type=int, help="Ranks to start. [default: the slots of all hosts; without hosts 2, SingleTrainer 1]")
@click.option("--window", type=int, help="Optimizer steps between exchanges; the trainer's own by default.")
@click.option("--epochs", default=1, show_default=True, help="Passes over the data, shared by all workers.")
@click.option("--batch-size", default=32, show_default=True, help="Samples in a step of one worker.")
@click.option("--optimizer", default=None, help="Name of a Keras optimizer. [default: the compiled model's, else adam]")
@click.option("--learning-rate", type=float, help="Of the optimizer.")
@click.option("--loss", default=None, help="Name of a Keras loss. [default: the compiled model's, else by the labels]")
@click.option("--metric", "metrics", multiple=True, default=["accuracy"], show_default=True, help="May be repeated.")
@click.option("--scalar", "scalars", multiple=True, metavar="NAME=VALUE", help="A hyper-parameter of the rule, such as alpha=0.1.")
@click.option("--backend", type=click.Choice(BACKENDS), help="[default: KERAS_BACKEND, else the first installed]")
@click.option("--scale", type=float, help="Multiply the features by it, unless the model does so itself.")
@click.option("--seed", default=0, show_default=True)
@click.option("--shuffle/--no-shuffle", default=True, show_default=True, help="Anew each epoch.")
@click.option("--check-finite/--no-check-finite", default=True, show_default=True, help="Stop at NaN and infinity.")
@click.option("--max-staleness", type=int, help="Exchanges that a worker may be ahead of the slowest. [default: any]")
@click.option("--merge-every", default="auto", show_default=True, help="Between nodes: auto, a number of exchanges, or a time (0.5s).")
@click.option("--merge-compression", default="none", show_default=True, help="none, bf16, fp16, int8 or topk:FRACTION.")
@click.option("--merge-timeout", default=60.0, show_default=True, help="Seconds that another node may be silent.")
@click.option("--on-node-loss", type=click.Choice(["stop", "shrink"]), default="stop", show_default=True, help="shrink: Open MPI, ULFM.")
@with_hosts
@click.option("--module", "modules", multiple=True, help="Module or file that registers custom layers.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("dkcore-out"), show_default=True, help="Where results go.")
@click.option("--quiet", is_flag=True, help="No progress bar, no table.")
def train(out: Path, quiet: bool, mpi: str, hosts: str | None, hostfile: str | None, workers: int | None, **options) -> None:
    """Train a Keras model with several workers; model, history, report and plot go to --out.

    Under mpirun or srun each rank calls this, and they train together.
    """
    from dkcore.front import job_of
    from dkcore.mpi import is_rank

    if is_rank(os.environ):
        from dkcore.inside import train_inside

        summary = train_inside(out, lambda directory, size: job_of(directory, workers=size, **options), workers, hosts or hostfile)
    else:
        summary = train_outside(out, not quiet, mpi, chosen_hosts(hosts, hostfile), workers, options)
    if summary and not quiet:
        Console().print(summary_table(summary))
        click.echo(f"{out}/model.keras  history.parquet  report.json  report.png")


def train_outside(out: Path, show: bool, mpi: str, hosts: list | None, workers: int | None, options: dict) -> dict:
    """Start the ranks of a training, wait for them, and deliver what they leave; the report."""
    from dkcore import outcome
    from dkcore.front import job_of
    from dkcore.hosts import count_ranks, place, shared_folder
    from dkcore.job import JOB

    outcome.prepare(out)
    workers = count_ranks(hosts, workers, None)
    if hosts and workers > 0:
        place(hosts, workers)  # refuses too many before the data are read
    with tempfile.TemporaryDirectory(prefix=JOB, dir=shared_folder(hosts, out)) as directory:
        job = job_of(directory, workers=workers, **options)
        job.launch(mpi=mpi, hosts=hosts, show=show, temporary=True)
        return outcome.deliver(job, out)


def summary_table(summary: dict) -> Table:
    """What a person wants to see of a report."""
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
    from dkcore.hosts import count_ranks, shared_folder
    from dkcore.launch import launch
    from dkcore.mpi import is_rank

    if is_rank(os.environ):
        from dkcore.inside import run_inside

        return run_inside(script, arguments, workers, hosts or hostfile)
    chosen = chosen_hosts(hosts, hostfile)
    ranks, where = count_ranks(chosen, workers, 2), shared_folder(chosen, Path.cwd())
    with tempfile.TemporaryDirectory(prefix=".dkcore-run-", dir=where) as directory:
        settings = {"mpi": mpi, "hosts": chosen, "output": "inherit", "temporary": True}
        launch([script, *arguments], ranks, directory=directory, **settings)


@main.command()
def rules() -> None:
    """Show the built-in rules with formula and source."""
    import inspect

    from dkcore.synchronous import METHODS

    table = Table("rule", "formula", "scalars", "source", show_lines=True)
    known = REGISTRY | METHODS
    for name, rule in known.items():
        if name != rule.name:
            continue
        formulas = [rule.formula] if name in REGISTRY else [rule.gather.formula, rule.outer.formula]
        lines = [line for formula in formulas for line in inspect.getsource(formula).splitlines()]
        body = [line.strip() for line in lines if line.startswith("    ") and '"""' not in line]
        scalars = ", ".join(f"{scalar}={rule.defaults[scalar]:g}" if scalar in rule.defaults else scalar for scalar in rule.scalars)
        aliases = [alias for alias, other in known.items() if other is rule and alias != name]
        table.add_row("\n".join([name, *aliases]), "\n".join(body), scalars, rule.doc)
    Console().print(table)


@main.command()
def doctor() -> None:
    """Say what is installed, what is missing, and how to get it; exits 1 when something needed is missing."""
    from dkcore.doctor import examine

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
    from dkcore.center import sweep_orphans

    removed = sweep_orphans()
    click.echo(f"removed {len(removed)}: {', '.join(removed)}" if removed else "nothing to remove")


main.add_command(simulate)
