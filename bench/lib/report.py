"""Tables from samples: medians, ratios to the best peer, and the bars that Holdfast has to meet."""

from statistics import median

MIB = 1 << 20
US = "holdfast"

# Holdfast's wall seconds as a share of the fastest peer's in the same run, at most.
WALL = {
    "small": {"backup": 0.6, "unchanged": 1.2, "edit": 0.4, "restore": 0.9, "restore_file": 1.2, "check": 0.7},
    "large": {"backup": 0.6, "edit": 0.6, "restore": 0.7, "check": 0.6},
    "random": {"backup": 0.6, "restore": 0.9},
    "tiny": {"backup": 1.0, "unchanged": 1.0, "edit": 0.8, "restore": 1.0},
}
# Its repository after the first backup as a share of the smallest peer's; growth by the edit likewise.
REPOSITORY = {"small": 0.95, "large": 1.0, "tiny": 1.0}
GROWTH = {"small": 1.0, "large": 1.0, "tiny": 1.0}
# MiB, whatever the peers take.
MEMORY = {("small", "backup"): 100, ("large", "backup"): 200}
MEMORY_RESTORE = 192


def medians(samples):
    """{op: {tool: {field: median}}}"""
    return {op: {tool: {field: median(s[field] for s in runs if field in s)
                        for field in ("wall", "cpu", "memory", "size") if any(field in s for s in runs)}
                 for tool, runs in tools.items()}
            for op, tools in samples.items()}


def growth(figures):
    """Bytes that the edit added to each tool's repository."""
    before = figures.get("unchanged") or figures.get("backup", {})
    return {tool: f["size"] - before[tool]["size"] for tool, f in figures.get("edit", {}).items() if tool in before}


def link_share(figures, rate):
    """The bytes of each tool's repository, moved once by a first backup and once by a restore, against what a link of `rate`
    bytes a second could have moved in the time that took."""
    sizes = {tool: f["size"] for tool, f in figures.get("backup", {}).items()}
    return [(op, {t: sizes[t] / (f["wall"] * rate) for t, f in figures[op].items() if t in sizes}) for op in ("backup", "restore") if op in figures]


def table(title, rows, tools, form, ratios=True):
    """Rows are (label, {tool: value}); the ratio in brackets is to the best peer's."""
    lines = [f"**{title}**", "", "| op | " + " | ".join(tools) + " |", "| --- |" + " ---: |" * len(tools)]
    for label, values in rows:
        best = _best(values) if ratios else None
        cells = [("–" if tool not in values else
                  f"{form(values[tool])} ({values[tool] / best:.2f})" if best and best > 0 else form(values[tool])) for tool in tools]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _best(values):
    peers = [v for tool, v in values.items() if tool != US]
    return min(peers) if peers else None


def bars(name, figures):
    """[(what, figure, bar, ratio or None, met)] for Holdfast, as far as measured."""
    out = []

    def ratio(what, values, most, form):
        best = _best(values)
        if US in values and best and best > 0:
            who = min((t for t in values if t != US), key=values.get)
            out.append((what, form(values[US]), f"{most} × {who} ({form(best)})", values[US] / best, values[US] <= most * best))

    for op, most in WALL.get(name, {}).items():
        ratio(f"{op}, wall", {t: f["wall"] for t, f in figures.get(op, {}).items()}, most, lambda v: f"{v:.2f} s")
    mib = lambda v: f"{v / MIB:.1f} MiB"
    if name in REPOSITORY:
        ratio("repository", {t: f["size"] for t, f in figures.get("backup", {}).items()}, REPOSITORY[name], mib)
    if name in GROWTH:
        ratio("growth by the edit", growth(figures), GROWTH[name], mib)
    for op, tools in figures.items():
        most = MEMORY.get((name, op), MEMORY_RESTORE if op.startswith("restore") else None)
        if most and US in tools:
            out.append((f"{op}, memory", mib(tools[US]["memory"]), f"{most} MiB", None, tools[US]["memory"] <= most * MIB))
    return out


def markdown(session, tools, machine, options):
    """The whole report on one data set."""
    figures = medians(session.samples)
    name = session.dataset.name
    if options.remote:
        name += f", {options.remote}" + (f" +{options.latency:g} ms" if options.latency else "") + (f", {options.rate:g} MB/s" if options.rate else "")
    runs = f"median of {options.runs}" + (f", scale {options.scale:g}" if options.scale != 1 else "")
    names = [t for t in tools if any(t in f for f in figures.values())]
    pick = lambda field: [(op, {t: f[field] for t, f in values.items() if field in f}) for op, values in figures.items()]
    parts = [f"### {name}\n",
             table(f"{name}: wall s (ratio to best peer), {runs}", pick("wall"), names, lambda v: f"{v:.2f}"),
             table(f"{name}: cpu s, user+sys, {runs}", pick("cpu"), names, lambda v: f"{v:.2f}"),
             table(f"{name}: peak memory MiB, {runs}", pick("memory"), names, lambda v: f"{v / MIB:.0f}")]
    sizes = [(op, v) for op, v in pick("size") if v]
    if added := growth(figures):
        sizes.append(("growth by edit", added))
    parts.append(table(f"{name}: repository MiB after, {runs}", sizes, names, lambda v: f"{v / MIB:.1f}"))
    if options.remote and options.rate:
        parts.append(table(f"{name}: share of the link used", link_share(figures, options.rate * 1e6), names, lambda v: f"{v:.2f}", ratios=False))
    if verdicts := bars(name, figures):
        lines = [f"**{name}: bars for Holdfast**", "", "| what | Holdfast | bar | ratio | |", "| --- | ---: | --- | ---: | --- |"]
        for what, figure, bar, ratio, met in verdicts:
            lines.append(f"| {what} | {figure} | {bar} | {f'{ratio:.2f}' if ratio else ''} | {'met' if met else '**missed**'} |")
        parts.append("\n".join(lines) + "\n")
    notes = [f"Source {session.bytes / MIB:.0f} MiB; restored to {session.restores_to}."]
    others = [s["others"] for runs_by in session.samples.values() for runs_ in runs_by.values() for s in runs_ if s["wall"] > 0.3]
    if others:
        notes.append(f"While commands were timed, other processes kept {sum(others) / len(others):.2f} cores busy on average, "
                     f"{max(others):.2f} at worst" + ("; **wall figures are unreliable, trust cpu**." if sum(others) / len(others) > 0.2 else "."))
    compared = [(t, s) for t, runs_ in session.samples.get("restore", {}).items() for s in runs_ if "differences" in s]
    if compared:
        equal = sum(1 for _, s in compared if not s["differences"])
        notes.append(f"{equal} of {len(compared)} restored trees were equal to the source (content, mode, mtime in ns, links).")
    parts.append(" ".join(notes) + "\n")
    if session.problems:
        parts.append("Problems:\n" + "\n".join(f"- {p}" for p in session.problems) + "\n")
    return "\n".join(parts)


def heading(tools, machine):
    rows = ["## Holdfast beside its peers\n", machine + "\n", "| tool | version | key derivation in every command |", "| --- | --- | --- |"]
    rows += [f"| {t.name} | {t.version()} | {'yes' if t.key_derivation else 'no (key file)'} |" for t in tools]
    rows.append("\nA ratio is to the best *peer* of its row (Holdfast is not a peer). Peers are whatever versions were on the PATH, and "
                "versions differ much in speed: figures of different machines or versions do not compare, ratios within one table do.\n")
    return "\n".join(rows)
