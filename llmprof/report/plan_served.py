"""A plan with a service level as tables: what keeps it, the ranges of that, why the rest does not, what would."""

from __future__ import annotations

from collections.abc import Sequence

from llmprof.latency.serving.variants import Interval
from llmprof.planning.degrees import words
from llmprof.planning.energy import JOULES_PER_KWH, Power
from llmprof.planning.rank import IN_WORDS
from llmprof.planning.served_figures import Predicted
from llmprof.planning.served_nearest import NearestTarget, below_light
from llmprof.planning.served_record import served_reasons, where
from llmprof.planning.served_search import Missed, ServedSearch
from llmprof.planning.slo import Slo
from llmprof.report.plan_tables import duration, heading, money, rate, settings
from llmprof.report.tables import Table

NAMES = {"ttft": "TTFT", "tpot": "TPOT"}
FIGURES_NOTE = (
    "TTFT: to the first token{further}; tok/s/gpu: of all answers, for each device{money}{energy}. Predicted, not "
    "measured: the ranges and what they rest on are in the next table."
)
FURTHER_NOTE = "; TPOT: each token after it, both on average; tok/s/user: of one request after its first token"
ENERGY_NOTE = "; kWh/M: the energy of a million tokens of answers at this rate, {power}, host and cooling not counted"
KEEPS_NOTE = "keeps it: likely where the value keeps the level and the high end of its range does not."
RANGES_NOTE = (
    ">=: the speed of light ({step}), below which no prediction is. TTFT ranges over what nobody states of a "
    "scheduler, and over its kernels{further}. limited by: what takes most of {which}, and its part of it; host is the "
    "engine's own time."
)
BASIS_NOTE = (
    "calibrated: constants fitted to measurements of this device; uncalibrated: of its family, or of the datasheet "
    "alone, at least a factor of 2 or 3 each way (docs/latency.md)."
)


def served_tables(search: ServedSearch, shown: Sequence[Predicted]) -> list[Table]:
    """The configurations that are shown, best first, and their ranges."""
    return [_values(search, shown), _ranges(search, shown)]


def _values(search: ServedSearch, shown: Sequence[Predicted]) -> Table:
    plan, slo = search.plan, search.target.slo
    priced = any(p.configuration.price is not None for p in shown)
    several = len({p.configuration.deployment.dtypes for p in shown}) > 1
    decodes = any(p.tpot.value for p in shown)
    powers = [p.power for p in shown if p.power is not None]
    columns = (
        "",
        "devices",
        "spread",
        *(("weights",) if several else ()),
        "TTFT",
        *(("TPOT", "tok/s/user") if decodes else ()),
        "tok/s/gpu",
        *(("per hour", "per M") if priced else ()),
        *(("kWh/M",) if powers else ()),
        *(("keeps it",) if slo.asked else ()),
    )
    rows = tuple(
        (
            f"{number}",
            f"{p.configuration.gpus} x {p.configuration.deployment.device.name}",
            words(p.configuration.deployment.sharding),
            *((p.configuration.deployment.dtypes.weights,) if several else ()),
            duration(p.ttft.value),
            *((duration(p.tpot.value), _or_dash(p.tokens_per_s_per_user)) if decodes else ()),
            rate(p.tokens_per_s_per_gpu),
            *((money(p.configuration.price_per_hour), money(p.cost_per_million)) if priced else ()),
            *((_kwh(p.joules_per_million),) if powers else ()),
            *((p.verdict(slo),) if slo.asked else ()),
        )
        for number, p in enumerate(shown, 1)
    )
    kept = sum(1 for c in search.seen if c not in search.missed)
    rest = len(search.unpredicted)
    notes = [
        *settings(plan),
        f"Asked: {asked(search)}. Ranked by {IN_WORDS[plan.ask.rank]} (--rank), then by {_then(search)}. Each number "
        f"of a device stands once; {kept:,} of the {len(plan.configurations):,} configurations with room serve it as "
        f"predicted{_unpredicted(rest)}.",
        FIGURES_NOTE.format(
            further=FURTHER_NOTE if decodes else ", on average",
            money="; per M: what a million tokens of answers cost" if priced else "",
            energy=ENERGY_NOTE.format(power=drawn(powers)) if powers else "",
        ),
    ]
    if slo.asked:
        notes.append(KEEPS_NOTE)
    return Table(title=heading(plan), columns=columns, rows=rows, left=3 + several, notes=tuple(notes))


def _kwh(joules: float | None) -> str:
    return "-" if joules is None else money(joules / JOULES_PER_KWH)


def drawn(powers: Sequence[Power]) -> str:
    """At which power devices are, in words."""
    stated = {power.stated for power in powers}
    limit = "at most: every board at its limit all the time"
    if stated == {False}:
        return limit
    return f"at the power of --watts all the time{'' if stated == {True} else f' (others {limit})'}"


def _ranges(search: ServedSearch, shown: Sequence[Predicted]) -> Table:
    decodes = any(p.tpot.value for p in shown)
    columns = (
        "",
        "limited by",
        "basis",
        "TTFT >=",
        "range",
        *(("TPOT >=", "range") if decodes else ()),
    )
    rows = tuple(
        (
            f"{number}",
            f"{p.bound_by} {round(100 * p.bound_share)}%",
            p.label,
            duration(p.least.ttft),
            span(p.ttft),
            *((duration(p.least.tpot), span(p.tpot)) if decodes else ()),
        )
        for number, p in enumerate(shown, 1)
    )
    step = "a prompt alone"
    if decodes:
        step = "a prompt and a step alone" if search.target.rate is not None else f"{step}, a step of all in flight"
    said = RANGES_NOTE.format(
        step=step,
        further="; TPOT over its kernels and the engine's own time" if decodes else "",
        which="a pass that makes tokens" if decodes else "a prompt's pass",
    )
    notes = [said, BASIS_NOTE]
    if shown:
        notes.append(f"1 is limited by {limit(shown[0])}. Assumed of it: {'; '.join(shown[0].assumptions)}.")
    title = "Ranges, what limits most, and what they rest on"
    return Table(title=title, columns=columns, rows=rows, left=3, notes=tuple(notes))


def span(found: Interval) -> str:
    """``83.0 to 617 ms``: both ends to three digits, in the unit of the higher one."""
    scale, unit = next((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (0.0, "us")) if found.high >= s)
    scale = scale or 1e-6
    return f"{_digits(found.low / scale)} to {_digits(found.high / scale)} {unit}"


def _digits(value: float) -> str:
    return (
        f"{value:,.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 1
        else f"{value:.3f}"
    )


def limit(p: Predicted) -> str:
    """``memory bandwidth, 81% of decode``."""
    phase = "decode" if p.tpot.value else "prefill"
    return f"{p.bound_by}, {round(100 * p.bound_share)}% of {phase}"


def nothing_served_table(search: ServedSearch, found: Sequence[NearestTarget]) -> Table:
    """Why nothing keeps the level, and the nearest that would be kept."""
    rows = tuple((_change(each), where(each.configuration)) for each in found)
    why = " ".join(_why_nothing(search))
    notes = [*settings(search.plan), f"{why[0].upper()}{why[1:]}"]
    notes.append(
        f"With {'any one of these changes' if len(found) > 1 else 'this change'} it would be served, as predicted."
        if found
        else "Nor would it be with looser levels, fewer requests or more devices, each of them alone."
    )
    columns = ("change", "then by") if found else ()
    return Table(title=heading(search.plan), columns=columns, rows=rows, left=2, notes=tuple(notes))


def missed_table(search: ServedSearch) -> Table:
    """Why configurations with room do not serve what is asked, and the nearest of each kind."""
    reasons = served_reasons(list(search.missed.values()))
    rows = tuple((each.reason, _nearest(each.nearest), f"{each.count:,}") for each in reasons)
    rest = len(search.unpredicted)
    if rest:
        rows += (("not predicted: dearer than those listed, or no quicker at best", "", f"{rest:,}"),)
    return Table(
        title=f"With room, but not served so, or not predicted: {len(search.missed) + rest:,} of "
        f"{len(search.plan.configurations):,}",
        columns=("why", "the nearest of them", "how many"),
        rows=rows,
        left=2,
        notes=tuple(f"No times: {each.nearest.why}." for each in reasons if each.nearest.why),
    )


def asked(search: ServedSearch) -> str:
    """``TTFT of 500.0 ms, TPOT of 30.00 ms at most; 20 requests/s``."""
    slo, target = search.target.slo, search.target
    levels = ", ".join(f"{NAMES[m]} of {duration(most)}" for m in slo.asked if (most := slo.of(m)) is not None)
    parts = [f"{levels} at most (--slo)"] if levels else []
    if target.rate is not None:
        parts.append(f"{plain(target.rate)} requests/s at random times (--request-rate)")
    return "; ".join(parts)


def why_nothing(search: ServedSearch) -> str:
    """In one line, why nothing serves what is asked."""
    return " ".join(_why_nothing(search))


def _why_nothing(search: ServedSearch) -> list[str]:
    light = below_light(search)
    if not light:
        return [f"nothing serves {asked(search)}."]
    return [
        f"--slo {metric}={_level(search.target.slo, metric)} is below the speed of light: nothing that has room can be "
        f"so quick. The nearest takes {duration(each.value)} at least ({where(each.configuration)})."
        for metric, each in light.items()
    ]


def _level(slo: Slo, metric: str) -> str:
    most = slo.ttft if metric == "ttft" else slo.tpot
    assert most is not None
    return level(most)


def level(seconds: float) -> str:
    """As `--slo` reads it, rounded up to three digits: ``503ms``."""
    from decimal import ROUND_CEILING, Context, Decimal

    exact = Decimal(repr(seconds))
    for scale, unit in (("1", "s"), ("0.001", "ms"), ("0.000001", "us")):
        if exact >= Decimal(scale) or unit == "us":
            value = Context(prec=3, rounding=ROUND_CEILING).divide(exact, Decimal(scale))
            return f"{value.normalize():f}{unit}"
    raise AssertionError(seconds)


def plain(rate: float) -> str:
    """A rate as `--request-rate` reads it: ``1000000``, ``0.25``."""
    return f"{rate:.9f}".rstrip("0").rstrip(".")


def _change(each: NearestTarget) -> str:
    if each.change == "request_rate":
        return f"--request-rate {plain(each.rate or 0.0)}"
    if each.change == "concurrency":
        return f"--concurrency {each.concurrency}"
    if each.change == "devices":
        return f"--max-gpus {each.configuration.gpus}"
    levels = {"ttft": each.slo.ttft, "tpot": each.slo.tpot}
    return "--slo " + ",".join(f"{name}={level(most)}" for name, most in levels.items() if most is not None)


def _nearest(each: Missed) -> str:
    if each.metric is None:
        return where(each.configuration)
    of = f"at most {each.value:,.4g} requests/s" if each.metric == "rate" else f"at least {duration(each.value)}"
    return f"{where(each.configuration)}: {of}"


def _unpredicted(rest: int) -> str:
    return f", and {rest:,} are not predicted, as they could neither be listed nor be on the front" if rest else ""


def _then(search: ServedSearch) -> str:
    only = search.target.slo.asked
    return NAMES[only[0]] if len(only) == 1 else "the time of a whole answer"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else rate(value)
