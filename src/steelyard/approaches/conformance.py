"""What every approach must do, ours or anybody's: run it on yours before you trust its figures.

    await check_approach(lambda: MyApproach(...), case, good_answer="refund")

The checks hold what the metrics rely on: cases are not changed, equal settings have equal fingerprints, every call
goes to the declared endpoint, calls beyond the planned ones are marked as such, no way a call can end makes the
approach raise, and a run can always be stopped.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence

from steelyard.approaches.approach import Answer, Approach
from steelyard.approaches.cascade import endpoints_of
from steelyard.approaches.fakes import ScriptedAsk
from steelyard.approaches.spec import Lever
from steelyard.cases.case import CaseInput
from steelyard.errors import BudgetReached, CheckFailed, Problem
from steelyard.models.calls import AttemptStatus

_UNUSABLE = "\x00 this is no output { "


async def check_approach(
    make: Callable[[], Approach], case: CaseInput, *, good_answer: str = "", planned_calls: int = 1
) -> None:
    """Run every check on an approach.

    Args:
        make: Prepares the approach; called twice, with the same settings and data.
        case: Any case it can work on.
        good_answer: What a model would have to answer for a valid output; not needed without an endpoint.
        planned_calls: Calls it makes for a case where nothing goes wrong.

    Raises:
        CheckFailed: Names the first property that does not hold.
    """
    approach, twin = make(), make()
    _require(bool(approach.name), "it has a name")
    _require(
        bool(approach.levers) and all(isinstance(lever, Lever) for lever in approach.levers),
        "it says which levers it pulls",
    )
    _require(bool(approach.fingerprint), "it has a fingerprint")
    _require(approach.fingerprint == twin.fingerprint, "equal settings and data have equal fingerprints")

    scripts: list[Sequence[str | AttemptStatus]] = [[good_answer], [_UNUSABLE], [_UNUSABLE, good_answer], [""]]
    for status in AttemptStatus:
        if status is not AttemptStatus.ANSWERED:
            scripts += [[status], [status, good_answer], [_UNUSABLE, status]]
    for script in scripts:
        await _check_script(approach, twin, case, script, planned_calls=planned_calls)
    blank = CaseInput(id="blank", fields=dict.fromkeys(case.fields, ""))
    _check_answer(await approach.answer(blank, ScriptedAsk([good_answer])), "a blank case")
    await _check_can_be_stopped(approach, case)


# ---- private --------------------------------------------------------------------------------------------------------


async def _check_script(
    approach: Approach, twin: Approach, case: CaseInput, script: Sequence[str | AttemptStatus], *, planned_calls: int
) -> None:
    told = f"on the answers {list(script)!r}"
    before = copy.deepcopy(case)
    ask, ask_twin = ScriptedAsk(script), ScriptedAsk(script)
    answer, answer_twin = await approach.answer(case, ask), await twin.answer(case, ask_twin)
    _require(case == before, f"it does not change the case ({told})")
    _check_answer(answer, told)
    _require(answer == answer_twin, f"it gives the same answer twice ({told})")
    _require(
        [call.request for call in ask.asked] == [call.request for call in ask_twin.asked],
        f"it asks the same twice ({told})",
    )
    if approach.endpoint is None:
        _require(not ask.asked, f"it calls no model, as it says ({told})")
    n_planned = planned_calls
    for number, call in enumerate(ask.asked):
        is_chat = call.request.operation == "chat"  # vectors and rerankings come from endpoints of their own
        _require(
            not is_chat or call.request.endpoint in endpoints_of(approach),
            f"it calls the endpoint it names and no other ({told})",
        )
        _require(call.extra == (number >= n_planned), f"calls beyond the planned ones are extra, no others ({told})")
        _require(not is_chat or call.request.max_tokens > 0, f"every call has a bound on its tokens ({told})")
        if script[min(number, len(script) - 1)] is AttemptStatus.SCHEMA_REFUSED:
            n_planned += 1  # a call that was turned away for its schema is made again without it
    requests = [call.request for call in ask.asked]
    _require(
        not any(request in requests[:number] for number, request in enumerate(requests)),
        f"no call repeats an earlier one, whose answer is known ({told})",
    )


def _check_answer(answer: Answer, told: str) -> None:
    _require(not answer.valid or answer.output is not None, f"a valid answer has an output ({told})")
    _require(answer.valid or bool(answer.problem), f"an invalid answer says why ({told})")
    _require(answer.valid or not answer.schema_pass, f"what passed the schema at first is valid in the end ({told})")
    _require(answer.confidence is None or 0 <= answer.confidence <= 1, f"confidence is within 0 and 1 ({told})")


async def _check_can_be_stopped(approach: Approach, case: CaseInput) -> None:
    if approach.endpoint is None:
        return
    for stop in (BudgetReached(Problem(what="the budget is spent")), asyncio.CancelledError()):
        try:
            await approach.answer(case, ScriptedAsk([stop]))
        except type(stop):
            continue
        raise CheckFailed(f"the approach does not conform: it lets {type(stop).__name__} pass")


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise CheckFailed(f"the approach does not conform: {rule}")
