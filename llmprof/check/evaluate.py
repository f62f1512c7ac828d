"""Every limit of every combination held against its value; where one fails, what grew, where, and what would pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from llmprof.check import measured, sentence
from llmprof.check.baseline import Baseline, Before, open_baseline
from llmprof.check.bounds import Range, bound, range_of
from llmprof.check.budgets import BudgetFile, Case, load
from llmprof.check.coverage import Warnings, require_all, warnings
from llmprof.check.figures import Figures, figures
from llmprof.check.folding import most
from llmprof.check.largest import WouldPass, would_pass
from llmprof.check.limits import Limit
from llmprof.check.measured import Measure, Plan
from llmprof.check.verdict import Bound, Finding, Number, Report
from llmprof.errors import DeviceError, InputError, Problem, SpecError

MAX_EXPLAINED = 100
"""How many failures are explained down to their modules: nobody reads more, and each costs as much as many verdicts."""

MAX_CAUSES = 10


def evaluate(
    files: Sequence[str],
    *,
    baseline: Baseline | str | None = None,
    require_budgets: bool = False,
    measure: Measure | None = None,
) -> Report:
    """Hold the budgets of `files` against the specs they name.

    `baseline` is what ``--baseline`` takes, opened or not. `require_budgets` makes a spec without a budget an error.
    `measure` runs measured limits, by default on this machine. Raises SpecError with every problem of the input, and
    InputError for a baseline that is wrong: what cannot be evaluated never passes.
    """
    loaded = load(files)
    if require_budgets:
        require_all(loaded)
    return judge(loaded, baseline=baseline, measure=measure, warned=warnings(loaded))


def judge(
    loaded: Iterable[BudgetFile],
    *,
    baseline: Baseline | str | None = None,
    measure: Measure | None = None,
    warned: Warnings = (),
) -> Report:
    """The same for budgets that are loaded; `warned` are the warnings of the report."""
    against = open_baseline(baseline) if isinstance(baseline, str) else baseline
    judge = _Judge(against, measure or measured.run)
    findings = [finding for file in loaded for case in file.cases for finding in judge.of(case)]
    if judge.problems:
        raise SpecError(list(dict.fromkeys(judge.problems)))
    return Report(
        findings=tuple(findings),
        warnings=warned,
        baseline=None if against is None else against.label,
    )


class _Judge:
    """Turns cases into findings; `problems` are what could not be evaluated."""

    def __init__(self, baseline: Baseline | None, measure: Measure) -> None:
        self.problems: list[Problem] = []
        self._baseline = baseline
        self._measure = measure
        self._explained = 0

    def of(self, case: Case) -> Iterator[Finding]:
        """The findings of a case, in the order of its limits."""
        before = self._baseline.of(case) if self._baseline is not None and case.entry.limits else None
        made = figures(case.subject.arch, case.workload, case.question.sharding)
        for limit in case.entry.limits:
            finding = self._exact(case, limit, made, before)
            if finding is not None:
                yield finding
        if case.entry.plan is not None:
            yield from self._measured(case, case.entry.plan)

    # --- exact limits -------------------------------------------------------------------------

    def _exact(self, case: Case, limit: Limit, made: Figures, before: Before | str | None) -> Finding | None:
        quantity = limit.quantity.name
        value = made.value(quantity)
        if value is None:
            self._problem(limit, f"{_who(case)}: there is no {quantity} of this pass, so no limit on it can hold")
            return None
        was = None if before is None or isinstance(before, str) else before.value(quantity)
        if limit.relative and was is None:
            self._problem(limit, f"{_who(case)}: {limit.text} is relative to a baseline, {_lacking(before, quantity)}")
            return None
        allowed = range_of(limit, was)
        worked_out = bound(limit, allowed, was)
        if allowed.holds(value):
            said = sentence.holds(_who(case), limit.quantity, value, worked_out)
            return _finding(
                case,
                limit,
                worked_out,
                status="passed",
                value=value,
                baseline=was,
                sentence=said,
                unconfirmed=made.unconfirmed(quantity),
            )
        return self._failed(case, limit, made, value, allowed, worked_out, before, was)

    def _failed(
        self,
        case: Case,
        limit: Limit,
        made: Figures,
        value: Number,
        allowed: Range,
        worked_out: Bound,
        before: Before | str | None,
        was: Number | None,
    ) -> Finding:
        quantity = limit.quantity
        self._explained += 1
        if self._explained > MAX_EXPLAINED:
            return _finding(
                case,
                limit,
                worked_out,
                status="failed",
                value=value,
                baseline=was,
                sentence=sentence.fails(_who(case), quantity, value, worked_out, baseline=was),
                note=f"not explained: the first {MAX_EXPLAINED} failures are",
                unconfirmed=made.unconfirmed(quantity.name),
            )
        then = before if was is not None and not isinstance(before, str) else None
        parts = most(made.parts(quantity.name))
        changes = () if then is None else then.changes(quantity.name, made)
        causes = () if then is None else then.causes()
        too_high = allowed.high is not None and value > allowed.high
        found = would_pass(case, quantity.name, allowed) if too_high else WouldPass()
        said = sentence.fails(
            _who(case),
            quantity,
            value,
            worked_out,
            parts=parts,
            baseline=was,
            changes=changes,
            causes=causes,
            largest={**found.largest, **found.some},
            fewest=found.fewest,
        )
        return _finding(
            case,
            limit,
            worked_out,
            status="failed",
            value=value,
            baseline=was,
            parts=parts,
            changes=changes,
            causes=tuple(sentence.cause(line) for line in causes[:MAX_CAUSES]),
            largest=dict(found.largest),
            would_pass=dict(found.some),
            fewest=dict(found.fewest),
            sentence=said,
            note=before if isinstance(before, str) else "",
            unconfirmed=made.unconfirmed(quantity.name),
        )

    def _problem(self, limit: Limit, found: str) -> None:
        place = limit.place
        self.problems.append(
            Problem(file=place.file, line=place.line, column=place.column, path=limit.path, found=found, expected="")
        )

    # --- measured limits ----------------------------------------------------------------------

    def _measured(self, case: Case, plan: Plan) -> Iterator[Finding]:
        run = None
        reason = ""
        try:
            run = self._measure(case.subject.arch, case.workload, plan)
        except DeviceError as error:
            reason = str(error)
        except InputError as error:
            self._problem(plan.limits[0], f"{_who(case)}: {error}")
            return
        for limit in plan.limits:
            allowed = range_of(limit, None).wider(plan.tolerance)
            worked_out = bound(limit, allowed, None, plan.tolerance)
            try:
                if run is None:
                    raise DeviceError(reason)
                exact, how = measured.value_of(limit, run, plan)
            except DeviceError as error:
                said = sentence.unmeasured(_who(case), limit.quantity, str(error))
                yield _finding(case, limit, worked_out, status="unmeasured", value=None, sentence=said, note=f"{error}")
                continue
            value: Number = int(exact) if limit.quantity.whole else float(exact)
            note = "; ".join([how, f"on {run.device}, {run.kernel} attention", *run.notes])
            holds = allowed.holds(exact)
            say = sentence.holds if holds else sentence.fails
            said = say(_who(case), limit.quantity, value, worked_out)
            yield _finding(
                case,
                limit,
                worked_out,
                status="passed" if holds else "failed",
                value=value,
                sentence=said,
                note=note,
            )


def _who(case: Case) -> str:
    return sentence.subject(case.name, case.subject.ref, case.settings)


def _lacking(before: Before | str | None, quantity: str) -> str:
    if before is None:
        return "and none was given; add --baseline FILE or --baseline git:REV"
    return f"but {before}" if isinstance(before, str) else f"which has no {quantity} for this entry"


def _finding(case: Case, limit: Limit, worked_out: Bound, **found: object) -> Finding:
    return Finding(
        name=case.name,
        spec=case.subject.ref,
        quantity=limit.quantity.name,
        settings=case.settings,
        bound=worked_out,
        **found,  # type: ignore[arg-type]
    )
