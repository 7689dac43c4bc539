"""The topology as text: a tree of links, a graph, and the words of its details."""

import json
from collections.abc import Iterator
from typing import Any, Final

from offload.cli.terminal import age

CLOCKS_APART_S: Final = 300.0
View = dict[str, Any]


def tree(view: View) -> list[str]:
    """Return lines that show by which way each instance is reached, from the own one on."""
    by_id = {instance["id"]: instance for instance in view["instances"]}
    own = by_id[view["own"]]
    near = [i for i in by_id.values() if i["linked"]]
    reached = {own["id"], *(i["id"] for i in near)}
    below: dict[str, list[View]] = {}
    for peer in near:
        for other in sorted(set(peer.get("links") or ()) & by_id.keys() - reached):
            reached.add(other)
            below.setdefault(peer["id"], []).append(by_id[other])
    for far in [i for i in by_id.values() if i["id"] not in reached and i.get("via") in by_id]:
        reached.add(far["id"])
        below.setdefault(far["via"], []).append(far)
    lost = [i for i in by_id.values() if i["id"] not in reached]
    lines = [_label(own)]
    lines += _branches([*near, *lost], own, below, "")
    return lines


def dot(view: View) -> str:
    """Return the links as a graph in the language of Graphviz."""
    lines = ["graph topology {"]
    for instance in view["instances"]:
        label = instance["name"] + (" (leader)" if instance["leader"] else "")
        style = "dashed" if instance["silent"] else "solid"
        lines.append(f"  {_quoted(instance['id'])} [label={_quoted(label)}, style={style}];")
    measured = {i["id"]: rtt(i) for i in view["instances"]}
    for one, other in sorted(_edges(view)):
        far = other if one == view["own"] else one
        time = measured.get(far, "") if view["own"] in (one, other) else ""
        label = f" [label={_quoted(time)}]" if time else ""
        lines.append(f"  {_quoted(one)} -- {_quoted(other)}{label};")
    return "\n".join([*lines, "}"])


def essence(view: View) -> object:
    """Return what, when it is another, is worth showing again."""
    plain = ("id", "name", "topics", "silent", "draining", "leader", "linked")
    later = ("closed", "links", "disabled")  # an instance of an earlier version does not say
    return [
        [*(i[name] for name in plain), *(i.get(name) for name in later)] for i in view["instances"]
    ]


def clocks(view: View) -> Iterator[str]:
    """Yield a sentence for each instance whose clock is far from ours."""
    for instance in view["instances"]:
        ahead_s = (instance.get("link") or {}).get("clock_ahead_s") or 0.0
        if abs(ahead_s) > CLOCKS_APART_S:
            how = "ahead of" if ahead_s > 0 else "behind"
            yield f"the clock of {instance['name']} is {abs(ahead_s):.0f} s {how} ours"


def rtt(instance: View) -> str:
    """Return the round trip to an instance in words; "" if it is not known."""
    rtt_s = (instance.get("link") or {}).get("rtt_s")
    return "" if rtt_s is None else f"{rtt_s * 1000:.1f} ms"


def clock(instance: View) -> str:
    """Return how far the clock of an instance is from ours; "" if it is not known."""
    ahead_s = (instance.get("link") or {}).get("clock_ahead_s")
    return "" if ahead_s is None else f"clock {round(ahead_s, 1) + 0.0:+.1f} s"


def linked_for(instance: View) -> str:
    """Return for how long the link to an instance has been up; "" if there is none."""
    return age((instance.get("link") or {}).get("since"))


def _branches(
    instances: list[View], above: View, below: dict[str, list[View]], indent: str
) -> Iterator[str]:
    for place, instance in enumerate(instances):
        last = place == len(instances) - 1
        yield f"{indent}{'└─' if last else '├─'} {_label(instance, above)}"
        under = below.get(instance["id"], [])
        yield from _branches(under, instance, {}, indent + ("   " if last else "│  "))


def _label(instance: View, above: View | None = None) -> str:
    marks = [word for word in ("own", "leader", "silent", "draining") if instance[word]]
    link = instance.get("link") or {}
    way = "we dialled" if link.get("dialled") else "it dialled, from"
    parts = [
        instance["name"] + (f" ({', '.join(marks)})" if marks else ""),
        f"{way} {link['address']}" if link else "",
        rtt(instance),
        f"linked {linked_for(instance)}" if link else "",
        clock(instance),
        "" if instance["own"] else str(instance.get("trust") or ""),
        f"version {instance['version']}" if instance.get("version") else "",
    ]
    if not link and not instance["own"]:
        parts.append("no link from here")
    if above and not above["own"] and instance["id"] not in (above.get("links") or ()):
        parts.append(f"{above['name']} hears of it")
    return "  ".join(filter(None, parts))


def _edges(view: View) -> set[tuple[str, str]]:
    """Return all links that are known, each once."""
    known = {instance["id"] for instance in view["instances"]}
    edges = {
        (min(i["id"], other), max(i["id"], other))
        for i in view["instances"]
        for other in i.get("links") or ()
        if other in known
    }
    return edges | {
        (min(i["id"], view["own"]), max(i["id"], view["own"]))
        for i in view["instances"]
        if i["linked"]
    }


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
