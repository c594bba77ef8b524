"""Loss against time: the points training_s/NAME/INDEX and training_loss/NAME/INDEX of each that trains."""

import numpy as np
from matplotlib.figure import Figure

from bench.report.drawing import COLOURS, INK, NoDataError, canvas, log_axis, pretty, stated
from bench.report.reading import Reading

__all__ = ["loss"]

OURS = "dkcore"


def loss(reading: Reading) -> Figure:
    """Ours bold."""
    times, losses = reading.curves("training_s"), reading.curves("training_loss")
    lines = {name: (np.array(times[name]), np.array(losses[name])) for name in losses if len(times.get(name, ())) == len(losses[name])}
    if not lines:
        raise NoDataError("figures training_loss/NAME/INDEX, and as many training_s/NAME/INDEX")
    figure, [axes] = canvas(width=9, title=message(lines))
    ours = [name for name in lines if name.startswith(OURS)]
    for index, (name, (seconds, values)) in enumerate(sorted(lines.items(), key=lambda item: item[0] in ours)):
        bold = name in ours
        colour = INK if ours == [name] else COLOURS[index % len(COLOURS)]
        axes.plot(
            seconds, values, color=colour, linewidth=2.4 if bold else 1.4, marker="o", markersize=4 if bold else 3, label=pretty(name)
        )
    axes.set_xlabel("time since the start of training (s)")
    axes.set_xlim(left=0)
    every = np.concatenate([values for _, values in lines.values()])
    if every.min() > 0 and every.max() > 8 * every.min():
        log_axis(axes, every.min() / 1.2, every.max() * 1.2, "test loss (logarithmic)")
    else:
        axes.set_ylabel("test loss")
    axes.legend(loc="upper right")
    stated(figure, reading)
    return figure


def message(lines: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Who first reaches what all reach."""
    level = max(values.min() for _, values in lines.values())
    when = {name: seconds[np.argmax(values <= level)] for name, (seconds, values) in lines.items()}
    first = min(when, key=when.get)
    called = pretty(first)
    if len(lines) == 1:
        return f"{called} reaches a loss of {level:.2g} in {when[first]:.3g} s"
    second = min((name for name in when if name != first), key=when.get)
    return f"{called} is the first at a loss of {level:.2g}: in {when[first]:.3g} s; {pretty(second)} takes {when[second]:.3g} s"
