"""``dkcore simulate``: what a job would do on workers and nodes that you do not have yet."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dkcore.commands import units
from dkcore.commands.quantity import Quantity
from dkcore.errors import expected

if TYPE_CHECKING:
    from rich.table import Table

    from dkcore.arrays import Array
    from dkcore.simulation import Simulation
    from dkcore.simulation.prediction import Prediction
    from dkcore.simulation.training import Problem, Step

__all__ = ["simulate"]

EXCHANGES = 100  # of each worker, when neither they nor a duration are given
LAW = (2, 3, 4)  # nodes for which the bytes of a merge are told


class RuleOption(click.Option):
    """An option whose help names the synchronous methods; they are looked up when the help is asked for."""

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        from dkcore.rules import METHODS

        self.help = f"A rule, a trainer, or {', '.join(METHODS)}."
        return super().get_help_record(context)


def straggler_of(text: str) -> tuple[int, float]:
    """``WORKER:FACTOR``."""
    worker, _, factor = str(text).partition(":")
    try:
        return int(worker), float(factor)
    except ValueError:
        advice = "Such as 3:2.0, worker 3 takes twice as long."
        raise ValueError(expected("WORKER:FACTOR", repr(text), advice)) from None


def pace_of(text: str) -> str | int | float:
    """``auto``, a number of exchanges, or seconds with their unit."""
    if text == "auto":
        return text
    return int(text) if text.isdigit() else units.seconds(text)


SECONDS, SPEED = Quantity("time", units.seconds), Quantity("speed", units.bytes_per_second)
NUMBER, PACE = Quantity("number", units.number), Quantity("pace", pace_of)


@click.command()
@click.option("--rule", cls=RuleOption, default="adag", show_default=True)
@click.option("--workers", default="8", show_default=True, type=NUMBER, help="On all nodes together.")
@click.option("--nodes", default=1, show_default=True, help="Each with a center of its own.")
@click.option("--window", type=int, help="Steps between exchanges; the trainer's own by default.")
@click.option("--scalar", "scalars", multiple=True, metavar="NAME=VALUE", help="A hyper-parameter of the rule, such as alpha=0.1.")
@click.option("--batch-size", default=32, show_default=True, help="Samples in a step of one worker.")
@click.option("--step-time", default="10ms", show_default=True, type=SECONDS, help="Of one step of one worker.")
@click.option("--jitter", default=0.1, show_default=True, help="Standard deviation of a step's time over its mean.")
@click.option("--straggler", "stragglers", multiple=True, type=Quantity("WORKER:FACTOR", straggler_of), help="Its steps take longer.")
@click.option("--weights", type=NUMBER, help="Elements of the model, float32. [default: 4.8e6, or the --model's]")
@click.option("--exchange-time", type=SECONDS, help="Of one exchange alone. [default: by --memory]")
@click.option("--memory", default="10GB/s", show_default=True, type=SPEED, help="What one core moves.")
@click.option("--lanes", default=2, show_default=True, help="Exchanges that a node's memory carries side by side at that speed.")
@click.option("--link", default="1gbit", show_default=True, type=SPEED, help="Between nodes.")
@click.option("--latency", default="50us", show_default=True, type=SECONDS, help="Of one message between nodes.")
@click.option("--merge-every", default="auto", show_default=True, type=PACE, help="auto, EXCHANGES of a node, or 0.5s.")
@click.option("--merge-share", default=0.1, show_default=True, help="Of the leader's core, that merges of pace auto may take.")
@click.option("--merge-compression", default="none", show_default=True, help="none, bf16, fp16, int8, topk:FRACTION.")
@click.option("--merge-scale", type=float, help="Of the nodes' summed differences. [default: 1; 1 / nodes if no progress is added]")
@click.option("--max-staleness", type=int, help="Exchanges that a worker may be ahead of the slowest.")
@click.option("--duration", type=SECONDS, help="Simulated time.")
@click.option("--exchanges", type=int, help=f"Of each worker. [default: {EXCHANGES}, unless --duration is given]")
@click.option("--model", type=click.Choice(["mlp", "none"]), default="none", show_default=True, help="mlp learns 4,000 digits for real.")
@click.option("--optimizer", type=click.Choice(["adam", "sgd", "nesterov"]), help="Of the model. [default: adam, nesterov for EAMSGD]")
@click.option("--learning-rate", type=float, help="Of the optimizer. [default: adam 0.001, others 0.1]")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Where plots and simulation.json go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def simulate(rule: str, model: str, optimizer: str | None, learning_rate: float | None, duration: float | None, exchanges: int | None,
             out: Path | None, as_json: bool, **options: Any) -> None:  # fmt: skip
    """Predict staleness, speed and bytes of a job, by an event queue that runs the real rules."""
    import json

    from rich.console import Console

    from dkcore.simulation import Simulation

    nesterov, settings = settings_of(rule, model, options)
    plan = Simulation(**settings)
    each = (0 if duration is not None else EXCHANGES) if exchanges is None else exchanges
    until = math.inf if duration is None else duration
    if exchanges is not None and exchanges < 1:
        raise ValueError(expected("--exchanges of 1 or more", exchanges, "Leave it out for 100 of each worker."))
    problem, step = learning(plan, model, optimizer or ("nesterov" if nesterov else "adam"), learning_rate)
    found = plan.run(duration=until, exchanges=each, problem=problem, step=step)
    runs = [*(smaller(plan, count).run(duration=until, exchanges=each) for count in counts(plan.workers)), found]
    if out:
        write(out, plan, found, runs)
    if as_json:
        click.echo(json.dumps(report(plan, found, runs), indent=1))
        return
    for table in (summary(plan, found), scaling(runs), law(plan)):
        Console().print(table)
    if out:
        click.echo(f"{out}/simulation.json  " + "  ".join(sorted(path.name for path in out.glob("*.png"))))


def settings_of(rule: str, model: str, options: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether the trainer's local step is Nesterov's; the settings of the simulation."""
    from dkcore.commands.options import trainer_of
    from dkcore.settings.option import scalar_of
    from dkcore.simulation import Simulation

    preset = trainer_of(rule)
    scalars = {**preset.scalars, **dict(map(scalar_of, options["scalars"]))}
    window = preset.window if options["window"] is None else options["window"]
    weights = options["weights"]
    if weights is None:
        weights = perceptron_size() if model == "mlp" else Simulation.weights
    renamed = {"memory_bandwidth": options.pop("memory"), "bandwidth": options.pop("link"), "stragglers": dict(options["stragglers"])}
    chosen = {"rule": preset.rule, "scalars": scalars, "window": window, "weights": weights}
    return preset.__name__ == "EAMSGD", options | renamed | chosen


def perceptron_size() -> int:
    from dkcore.simulation.problems import Perceptron

    return Perceptron().size


def learning(
    plan: "Simulation", model: str, optimizer: str, learning_rate: float | None
) -> "tuple[Problem | None, Callable[[Array], Step] | None]":
    """The problem and the steps with which `Simulation.run` trains; none without a model."""
    if model == "none":
        return None, None
    from dkcore.simulation.optimizers import STEPS
    from dkcore.simulation.problems import Digits

    step = STEPS[optimizer] if learning_rate is None else partial(STEPS[optimizer], learning_rate=learning_rate)
    return Digits(plan.workers, batch_size=plan.batch_size, seed=plan.seed), step


def counts(workers: int) -> list[int]:
    """Powers of two below the number of workers.

    >>> counts(10), counts(1)
    ([1, 2, 4, 8], [])
    """
    return [2**power for power in range((workers - 1).bit_length())]


def smaller(plan: "Simulation", workers: int) -> "Simulation":
    """The same with fewer workers, on as many of the nodes as they can fill."""
    from dataclasses import replace

    stragglers = {worker: factor for worker, factor in plan.stragglers.items() if worker < workers}
    return replace(plan, workers=workers, nodes=min(plan.nodes, workers), stragglers=stragglers)


def at_nodes(plan: "Simulation", nodes: int) -> "Simulation":
    from dataclasses import replace

    return replace(plan, nodes=nodes, workers=max(plan.workers, nodes))


def report(plan: "Simulation", found: "Prediction", runs: "list[Prediction]") -> dict[str, Any]:
    """The prediction, how it scales, and the bytes of a merge, for JSON."""
    scaled = [{name: getattr(run, name) for name in ("workers", "nodes", "samples_per_s", "efficiency")} for run in runs]
    merged = {str(nodes): at_nodes(plan, nodes).merge_bytes for nodes in LAW}
    return found.to_dict() | {"scaling": scaled, "bytes_per_merge_by_nodes": merged}


def write(out: Path, plan: "Simulation", found: "Prediction", runs: "list[Prediction]") -> None:
    """The report and the plots."""
    import json

    from dkcore.simulation import plot

    out.mkdir(parents=True, exist_ok=True)
    (out / "simulation.json").write_text(json.dumps(report(plan, found, runs), indent=1) + "\n")
    if found.histogram:
        plot.save(out / "staleness.png", plot.draw_staleness, found)
        plot.save(out / "scaling.png", plot.draw_scaling, runs)
    if found.curve:
        plot.save(out / "training.png", plot.draw_training, found)


def summary(plan: "Simulation", found: "Prediction") -> "Table":
    """What was predicted."""
    from rich.table import Table

    from dkcore.registry import rule_of

    table = Table(show_header=False)
    rule = rule_of(plan.rule).name
    table.add_row("job", f"{rule}, {plan.workers:,} workers on {plan.nodes:,} nodes, window {plan.window}, {found.elapsed:.4g} s")
    percentiles = "  ".join(f"{percent} %: {found.percentile(percent):,}" for percent in (5, 50, 95, 99))
    table.add_row("staleness", f"mean {found.mean_staleness:,.2f}   {percentiles}")
    table.add_row("exchanges", f"{found.exchanges:,}, {found.exchanges_per_s:,.0f} a second, {1e3 * plan.exchange_seconds:.3g} ms alone")
    table.add_row("throughput", f"{found.samples_per_s:,.0f} samples a second, {found.efficiency:.1%} of {plan.workers:,} that never wait")
    table.add_row("workers", f"{found.utilisation:.1%} of their time in steps")
    if plan.nodes > 1:
        text = f"{found.merges:,}, under way {found.link_share:.0%} of the time, {1e3 * plan.merge_seconds:.3g} ms on the link"
        table.add_row("merges", text)
        table.add_row("a leader sends", f"{found.bytes_per_leader / 1e6:,.1f} MB, {plan.merge_bytes / 1e6:,.2f} MB a merge")
    if found.accuracy is not None:
        table.add_row("center", f"loss {found.loss:.4g}, accuracy {found.accuracy:.4f}, settled at {found.settled_accuracy:.4f}")
    return table


def scaling(runs: "list[Prediction]") -> "Table":
    """Throughput over the number of workers."""
    from rich.table import Table

    table = Table("workers", "nodes", "samples/s", "efficiency", "staleness")
    for run in runs:
        numbers = f"{run.samples_per_s:,.0f}", f"{run.efficiency:.1%}", f"{run.mean_staleness:,.2f}"
        table.add_row(f"{run.workers:,}", f"{run.nodes:,}", *numbers)
    return table


def law(plan: "Simulation") -> "Table":
    """The bytes of a merge do not grow with the nodes: 2 (m - 1) / m of the model, compressed."""
    from rich.table import Table

    table = Table("nodes", "a leader sends in a merge", "of the model", "on the link")
    for nodes in LAW:
        other = at_nodes(plan, nodes)
        share = other.merge_bytes / (4 * plan.weights)
        table.add_row(str(nodes), f"{other.merge_bytes / 1e6:,.2f} MB", f"{share:.3f}", f"{1e3 * other.merge_seconds:,.3g} ms")
    return table
