"""The merge of nodes for each compression and link: merge_s/CODEC/LINK."""

import re

import numpy as np
from matplotlib.figure import Figure

from bench.report.drawing import COLOURS, GREY, NoDataError, canvas, stated
from bench.report.reading import Reading

__all__ = ["merge"]


def merge(reading: Reading) -> Figure:
    """Bars, a group for each link."""
    found: dict[str, dict[str, float]] = {}
    for key, each in reading.figures.items():
        first, *name = key.split("/")
        if first == "merge_s" and len(name) == 2:
            found.setdefault(named(name[1]), {})[name[0]] = 1e3 * each.value
    if not found:
        raise NoDataError("figures merge_s/CODEC/LINK")
    codecs = list(dict.fromkeys(codec for bars in found.values() for codec in bars))
    codecs.sort(key=lambda codec: codec != "none")
    figure, panels = canvas(len(found), width=max(8, 4.5 * len(found)), height=0.55 * len(codecs) + 2.4, title=message(found), sharey=True)
    for axes, (link, bars) in zip(panels, found.items(), strict=True):
        shown = [codec for codec in codecs if codec in bars]
        places = [codecs.index(codec) for codec in shown]
        colours = [GREY if codec == "none" else COLOURS[0] for codec in shown]
        drawn = axes.barh(places, [bars[codec] for codec in shown], 0.62, color=colours)
        axes.bar_label(drawn, [f"{bars[codec]:,.3g} ms" for codec in shown], padding=4, fontsize=9)
        axes.set_yticks(np.arange(len(codecs)), ["no compression" if codec == "none" else codec for codec in codecs])
        axes.margins(x=0.18)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time of a merge (ms)")
        axes.set_title(link, color=GREY)
    panels[0].invert_yaxis()
    stated(figure, reading)
    return figure


def named(link: str) -> str:
    """For people.

    >>> named("1gbit"), named("unlimited")
    ('1 Gbit/s', 'an unlimited cable')
    """
    return re.sub(r"^(\d+)gbit$", r"\1 Gbit/s", link).replace("unlimited", "an unlimited cable")


def message(found: dict[str, dict[str, float]]) -> str:
    """The best of all savings; or of two codecs, where no compression was not measured."""
    gains = [(bars["none"] / value, codec, link) for link, bars in found.items() if "none" in bars for codec, value in bars.items()]
    if gains:
        gain, codec, link = max(gains)
        return f"Over {link}, {codec} merges {gain:.2g} times as fast as no compression" if gain > 1 else "No compression merges fastest"
    value, codec, link = min((value, codec, link) for link, bars in found.items() for codec, value in bars.items())
    return f"Over {link}, {codec} merges in {value:.3g} ms"
