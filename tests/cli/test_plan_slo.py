"""`llmprof plan --slo --request-rate`: what it prints, its record, what it refuses, and its exit codes."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llmprof.cli.plan_slo import parse_slo
from llmprof.latency.serving.variants import Interval
from llmprof.planning.energy import Power
from llmprof.report.plan_served import drawn, level, plain, span
from llmprof.units import number_of
from tests.cli.conftest import Cli

SMALL = ("plan", "llama-3.2-1b", "--context", "512", "--output-tokens", "32", "--max-gpus", "2")
ONE = (*SMALL, "--device", "h100-sxm")
TWO = (*SMALL, "--device", "h100-sxm,l40s", "--price", "h100-sxm=2.5,l40s=0.9", "--concurrency", "8")
CONTRACT = Path(__file__).parents[2] / "docs" / "machine-contract.md"


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ((), "at most: every board at its limit all the time, host and cooling not counted"),
        (("--watts", "560"), "at the power of --watts all the time, host"),
    ],
)
def test_energy_and_the_power_that_it_rests_on(cli: Cli, given: tuple[str, ...], note: str) -> None:
    out = cli(*TWO, "--slo", "tpot=20ms", *given, "--top", "2").out
    head = next(line for line in out.splitlines() if "tok/s/gpu" in line)
    assert head.split()[-3:] == ["kWh/M", "keeps", "it"]
    assert f"kWh/M: the energy of a million tokens of answers at this rate, {note}" in " ".join(out.split())


def test_some_powers_are_stated_and_some_are_limits() -> None:
    both = [Power(watts=290, stated=True), Power(watts=700, stated=False)]
    limit = "at most: every board at its limit all the time"
    assert drawn(both) == f"at the power of --watts all the time (others {limit})"
    assert (drawn(both[:1]), drawn(both[1:])) == ("at the power of --watts all the time", limit)


def test_what_keeps_a_level_and_how_sure_that_is(cli: Cli) -> None:
    done = cli(*TWO, "--slo", "ttft=400ms,tpot=20ms")
    assert done.code == 0
    out = done.out
    assert "Asked: TTFT of 400.0 ms, TPOT of 20.00 ms at most (--slo). Ranked by lowest price per hour (--rank)" in out
    first = next(line for line in out.splitlines() if line.startswith("1   1 x l40s"))
    assert first.split()[-1] in ("yes", "likely")
    for text in (
        "TTFT >=", "TPOT >=", "limited by", "calibrated", "Pareto front: price of an hour against answer",
        "scheduler chunked", "memory bandwidth", "% of decode", "Memory of 1 l40s", "What bounds 1 x l40s",
        "To serve it so on 1 x l40s", "Predicted, not measured",
    ):  # fmt: skip
        assert text in " ".join(out.split())


@pytest.mark.parametrize(("columns", "encoding"), [("80", "utf-8"), ("120", "utf-8"), ("80", "ascii")])
def test_the_front_is_drawn_as_wide_as_the_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: str, encoding: str
) -> None:
    from llmprof.cli import plan_served

    monkeypatch.setenv("COLUMNS", columns)
    width, _ = plan_served._canvas(None)
    assert width == int(columns)
    monkeypatch.setattr(plan_served, "_canvas", lambda output: (width, encoding))
    out = cli(*TWO, "--slo", "tpot=20ms").out
    front = out.split("Pareto front: price of an hour against TPOT")[1].split("\n\nMemory of")[0]
    plot = [line for line in front.splitlines() if re.match(r" +(\S+ \S+ )?[│|]", line)]
    assert len(plot) == 14
    assert sum(line.count("●" if encoding == "utf-8" else "*") for line in plot) >= 2
    edge = next(line for line in front.splitlines() if re.match(r" +[└+]", line))
    assert min(int(columns), 118) - 8 <= len(edge) <= int(columns)
    if encoding == "ascii":
        assert "".join(plot).isascii()


def test_the_record_is_the_one_of_the_contract(cli: Cli) -> None:
    given = ("--slo", "tpot=20ms", "--request-rate", "5", "--watts", "l40s=290")
    done = cli(*TWO, *given, "--format", "json", "--top", "2")
    (record,) = done.json["results"]
    plain = cli(*TWO, "--format", "json", "--top", "1").json["results"][0]
    section = CONTRACT.read_text(encoding="utf-8").split("## `plan --slo .. --format json`")[1].split("\n## ")[0]
    paired = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    said = set(re.findall(r"`([a-z_]+)`", " ".join(paired)))
    new = (set(record) - set(plain)) | (set(record["configurations"][0]) - set(plain["configurations"][0]))
    points = set(record["pareto"][0]) - set(plain["configurations"][0])
    assert new | points == said
    for c in record["configurations"]:
        assert c["ttft_ns_lower_bound"] <= c["ttft_ns_low"] <= c["ttft_ns"] <= c["ttft_ns_high"]
        assert c["tpot_ns_lower_bound"] <= c["tpot_ns_low"] <= c["tpot_ns"] <= c["tpot_ns_high"]
        assert c["tpot_ns"] <= record["slo_tpot_ns"] == 20_000_000
        assert c["requests_per_s"] == 5
        assert c["cost_per_million_tokens"] == pytest.approx(
            c["price_per_hour"] / 3600 / c["tokens_per_s"] * 1e6, rel=1e-12
        )
        watts, basis = {"h100-sxm-80gb": (700, "board limit"), "l40s": (290, "stated")}[c["device"]]
        assert (c["watts_per_device"], c["watts_basis"]) == (watts, basis)
        assert c["joules_per_request"] == pytest.approx(watts * c["gpus"] / 5, rel=1e-12)
        assert c["joules_per_million_tokens"] == pytest.approx(watts * c["gpus"] / c["tokens_per_s"] * 1e6, rel=1e-12)
        why = {"board limit": "the limit of its board, and so at most", "stated": "--watts states"}[basis]
        assert why in c["unconfirmed"]["joules_per_request"]
        assert "calibrated" in c["prediction_basis"]
        assert "tpot_ns" in c["unconfirmed"]
    kept = [point for point in record["pareto"] if point["on_front"]]
    assert kept
    assert all(point["meets"] for point in kept)
    assert (
        record["meeting"] + record["not_predicted"] + sum(r["count"] for r in record["slo_rejections"])
        == (record["with_room"])
    )


def test_a_device_without_a_price_is_not_drawn(cli: Cli) -> None:
    """Only H100s keep the level, whose price nobody said: they are listed, and have no place on the axis."""
    given = (*SMALL, "--device", "h100-sxm,l40s", "--price", "l40s=0.9", "--slo", "tpot=5ms", "--concurrency", "8")
    done = cli(*given)
    assert done.code == 0
    front = done.out.split("Pareto front")[1].split("\n\nMemory of")[0]
    assert re.search(r"^- +2 x h100-sxm-80gb", front, re.MULTILINE)
    assert "│" not in front


def test_csv_and_markdown(cli: Cli) -> None:
    """What is on the front is there, listed or not."""
    rows = list(csv.DictReader(io.StringIO(cli(*TWO, "--slo", "tpot=20ms", "--top", "1", "--format", "csv").out)))
    assert {row["meets"] for row in rows} <= {"yes", "likely"}
    assert [row["rank"] for row in rows] == ["1", *[""] * (len(rows) - 1)]
    (record,) = cli(*TWO, "--slo", "tpot=20ms", "--top", "1", "--format", "json").json["results"]
    front = [(point["device"], str(point["gpus"])) for point in record["pareto"] if point["on_front"]]
    assert [(row["device"], row["gpus"]) for row in rows if row["on_front"] == "True"] == front
    page = cli(*TWO, "--slo", "tpot=20ms", "--format", "markdown").out
    assert "| 1 | 1 x l40s |" in page
    assert "| 0.90 | 1 x l40s |" in page
    (plot,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert sum(line.count("●") for line in plot.splitlines()[:14]) >= 2
    assert max(map(len, plot.splitlines())) <= 80, "as wide as a page, whatever the terminal"


def test_below_the_speed_of_light(cli: Cli) -> None:
    done = cli(*ONE, "--slo", "ttft=1us")
    assert done.code == 1
    assert "--slo ttft=1us is below the speed of light" in done.err
    assert "2 x h100-sxm-80gb (TP2)" in done.err
    change = re.search(r"^--slo ttft=(\S+) +2 x h100-sxm-80gb", done.out, re.MULTILINE)
    assert change is not None
    assert cli(*ONE, "--slo", f"ttft={change[1]}").code == 0, "the nearest level is kept"


def test_two_levels_that_no_device_keeps_together(cli: Cli) -> None:
    """An L40S has more FLOP/s than an A100, which has more bandwidth: at the speed of light one keeps each level, none
    both, and neither level is below the speed of light."""
    asked = ("plan", "llama-3.1-8b", "--device", "l40s,a100-sxm-80gb", "--max-gpus", "1", "--slo")
    done = cli(*asked, "ttft=90ms,tpot=10ms")
    assert done.code == 1
    assert "nothing serves TTFT of 90.00 ms, TPOT of 10.00 ms at most" in done.err
    assert "speed of light" not in done.err
    both = cli(*asked, "ttft=1ms,tpot=1ms")
    assert "--slo ttft=1ms is below" in both.err
    assert "--slo tpot=1ms is below" in both.err


def test_fewer_requests_at_once(cli: Cli) -> None:
    """The number that is said keeps the level, in a plan of just that many; twice as many do not."""
    asked = (*ONE, "--slo", "tpot=9ms,ttft=200ms", "--max-gpus", "1", "--concurrency")
    done = cli(*asked, "max")
    assert done.code == 1
    found = re.search(r"^--concurrency (\d+) +1 x h100-sxm-80gb$", done.out, re.MULTILINE)
    assert found is not None
    assert cli(*asked, found[1]).code == 0
    assert cli(*asked, str(2 * int(found[1]))).code == 1


def test_nothing_alone_would_do(cli: Cli) -> None:
    done = cli(*ONE, "--slo", "ttft=1us", "--request-rate", "900")
    assert done.code == 1
    assert "Nor would it be with looser levels, fewer requests or more devices" in done.out


def test_nothing_serves_so_many_requests(cli: Cli) -> None:
    done = cli(*ONE, "--request-rate", "900", "--format", "json")
    assert done.code == 1
    assert "nothing serves 900 requests/s" in done.err
    (record,) = done.json["results"]
    assert record["configurations"] == record["pareto"] == []
    slower, more = record["nearest_targets"]
    assert (slower["change"], more["change"]) == ("request_rate", "devices")
    assert cli(*ONE, "--request-rate", f"{slower['request_rate']:.6f}").code == 0
    assert more["gpus"] > 2


def test_nothing_has_room(cli: Cli) -> None:
    done = cli("plan", "llama-3-70b", "--device", "l4", "--max-gpus", "1", "--slo", "tpot=1s")
    assert done.code == 1
    assert "nothing has room" in done.err
    assert "--max-gpus 8    8 x l4" in done.out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--slo", "ttft=0"), "above 0"),
        (("--slo", "ttft=0ms"), "above 0"),
        (("--slo", "tpot=-1ms"), "found '-1ms'"),
        (("--slo", "foo=1s"), "found 'foo'; expected ttft or tpot"),
        (("--slo", "ttft=1s,ttft=2s"), "ttft is given twice"),
        (("--slo", "ttft=500"), "without a unit; expected s, ms or us, such as 500ms"),
        (("--slo", "ttft=nan"), "found 'nan'"),
        (("--slo", "ttft=infs"), "found 'infs'"),
        (("--slo", "ttft=1e3ms"), "found '1e3ms'"),
        (("--slo", "ttft=999999999s"), "of a day at most"),
        (("--slo", "ttft"), "expected a level and its time"),
        (("--slo", ""), "expected a level and its time"),
        (("--slo", f"{'a' * 99}=1s"), "a text of 99 characters"),
        (("--request-rate", "0"), "above 0"),
        (("--request-rate", "0.000000001"), "at least 0.000001"),
        (("--request-rate", "nan"), "found 'nan'"),
        (("--request-rate", "-2"), "found '-2'"),
        (("--request-rate", "9999999"), "at most 1,000,000"),
        (("--slo", "tpot=1s", "--output-tokens", "1"), "none after the first"),
        (("--request-rate", "1", "--output-tokens", "0"), "at least 1 token"),
        (("--watts", "560"), "--watts has no effect without --slo or --request-rate"),
        (("--slo", "tpot=1s", "--watts", "0"), "--watts: found '0'; expected the watts that a device draws"),
        (("--slo", "tpot=1s", "--watts", "h100-sxm=1,h100-sxm=2"), "h100-sxm-80gb has two powers"),
        (("--slo", "tpot=1s", "--watts", "l40s=290"), "l40s is none of the devices that are planned"),
        (("--device-profile", "none.yaml"), "no effect without --slo or --request-rate"),
    ],
)
def test_what_is_refused(cli: Cli, given: tuple[str, ...], says: str) -> None:
    done = cli(*ONE, *given)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("name", "says"), [("bert-base-uncased", "structure encoder"), ("mamba-130m", "no times are known")]
)
def test_models_without_served_times(cli: Cli, name: str, says: str) -> None:
    done = cli("plan", name, "--device", "h100-sxm", "--slo", "ttft=1s")
    assert done.code == 2
    assert says in done.err


def test_a_plan_without_a_level_does_not_load_what_predicts_times() -> None:
    code = (
        "import sys; from llmprof.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('llmprof.latency')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *ONE], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr.splitlines()[-1] == "[]"


def test_levels_as_text() -> None:
    """Rounded up, so that what is said to do does: 7.2801 ms is 7.29ms. One of a thing is no two."""
    assert [number_of(n, "client") for n in (0, 1, 2, 1371)] == ["0 clients", "1 client", "2 clients", "1,371 clients"]
    assert [plain(rate) for rate in (1e6, 0.25, 37.0, 1e-6)] == ["1000000", "0.25", "37", "0.000001"]
    assert [level(value) for value in (0.0072801, 1.0, 0.5, 12.34, 0.00000123, 1234.5)] == [
        "7.29ms", "1s", "500ms", "12.4s", "1.23us", "1240s",
    ]  # fmt: skip
    for value in (0.0072801, 0.5, 12.34, 1e-6):
        assert value <= parse_slo(f"ttft={level(value)}")["ttft"] <= value * 1.01
    assert span(Interval(value=0.2, low=0.083, high=0.617)) == "83.0 to 617 ms"
    assert span(Interval(value=0.2, low=0.083, high=1.43)) == "0.083 to 1.43 s"
