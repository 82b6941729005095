"""Collecting the nodes of a workflow, of a branch or of a loop: the words of the builder. It runs nothing.

`WorkflowBuilder` collects the top level, `flow()` what stands inside; both speak the same words. Messages of
`DefinitionError` say what to change.
"""

from __future__ import annotations

from flux_core.directives import FAIL, Directive, sleep, sleep_until, wait, wait_any
from flux_core.errors import DefinitionError
from flux_core.generics import DataT, Generic, Input
from flux_core.handlers import checked_handler
from flux_core.names import check_step_name
from flux_core.step_options import (
    as_function,
    check_known,
    checked_child,
    checked_concurrency,
    checked_items,
    checked_options,
)
from flux_core.workflow import (
    BODY,
    CHILD,
    COMMIT,
    DEFAULT,
    ELSE,
    IF,
    LOOP,
    MAP,
    NUMBERED,
    PARALLEL,
    SLEEP,
    STEP,
    SWITCH,
    THEN,
    WAIT,
    WHILE,
    Body,
    StepDefinition,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from typing import Any, Self, TypeAlias, Unpack, overload

    from flux_core.context import Context
    from flux_core.generics import (
        CommitOptions,
        Handler,
        Output,
        PauseOptions,
        StepOptions,
    )
    from flux_core.options import Duration
    from flux_core.retry import RetryPolicy
    from flux_core.workflow import Merge

    Inside: TypeAlias = "FlowBuilder[Input, DataT] | Handler[Input, DataT]"
    """What a branch or a loop holds."""


class NodeCollector(Generic[Input, DataT]):
    """The words that add a node. Each returns the collector, so that calls can be chained."""

    _unit = "a workflow"
    """Within what names are unique, for messages."""

    def __init__(
        self,
        label: str,
        retries: int | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`label` says in messages whose nodes these are; the others hold for nodes that say nothing themselves."""
        self._label = label
        self._retries = retries
        self._timeout = timeout
        self._retry = retry
        self._steps: list[StepDefinition] = []
        self._names: set[str] = set()
        self._undecorated: list[str] = []
        """Steps declared without a handler that have not met theirs yet."""
        self._frozen = False
        """Whether it is in use, so that nothing can be added any more."""

    def __repr__(self) -> str:
        return f"<{self._label}: {' > '.join(step.name for step in self._steps) or 'no steps'}>"

    if TYPE_CHECKING:

        @overload
        def step(
            self, name: Callable[[Context[Input, DataT]], Output]
        ) -> Callable[[Context[Input, DataT]], Output]: ...
        @overload
        def step(
            self, name: str, handler: Handler[Input, DataT], **options: Unpack[StepOptions[Input, DataT]]
        ) -> Self: ...
        @overload
        def step(
            self, name: str, **options: Unpack[StepOptions[Input, DataT]]
        ) -> Callable[[Callable[[Context[Input, DataT]], Output]], Callable[[Context[Input, DataT]], Output]]: ...

    def step(self, name: str | Handler, handler: Handler | None = None, **options: Any) -> Any:
        """Add a step: `.step("name", handler, **options)`, or as decorator `@w.step` and `@w.step("name", ...)`.

        Options: `retries` (further attempts), `timeout` (seconds or timedelta an attempt), `when` (condition, `def`
        or `async def`), `compensate` (function or `compensation(...)`), `give_up_on` (exception types not retried),
        `retry` (`RetryPolicy`), `aliases` (names that the step had in earlier definitions, for running instances).
        """
        return self._add(name, handler, kind=STEP, options=options)

    if TYPE_CHECKING:

        @overload
        def commit(
            self, name: Callable[[Context[Input, DataT]], Output]
        ) -> Callable[[Context[Input, DataT]], Output]: ...
        @overload
        def commit(
            self, name: str, handler: Handler[Input, DataT], **options: Unpack[CommitOptions[Input, DataT]]
        ) -> Self: ...
        @overload
        def commit(
            self, name: str, **options: Unpack[CommitOptions[Input, DataT]]
        ) -> Callable[[Callable[[Context[Input, DataT]], Output]], Callable[[Context[Input, DataT]], Output]]: ...

    def commit(self, name: str | Handler, handler: Handler | None = None, **options: Any) -> Any:
        """Add a step with a side effect: its intent is durable before it runs, its success is never run again.

        Options as for `step`, and `idempotent` (True: an attempt of unknown outcome is simply retried with the same
        `ctx.idempotency_key`) and `on_unknown`: `verify(probe)`, "retry" or "quarantine" (PROTOCOL rule 9).
        """
        return self._add(name, handler, kind=COMMIT, options=options)

    def wait(
        self,
        name: str,
        signal: str,
        timeout: Duration | None = None,
        on_timeout: object = FAIL,
        **options: Unpack[PauseOptions[Input, DataT]],
    ) -> Self:
        """Add a node that waits for `signal`; its output is the payload. `timeout` and `on_timeout` as for `wait()`.

        Options: `when`, `aliases`, `compensate`.
        """
        return self._pause(WAIT, name, lambda: wait(signal, timeout, on_timeout), options)

    def wait_any(
        self,
        name: str,
        signals: tuple[str, ...] | list[str],
        timeout: Duration | None = None,
        on_timeout: object = FAIL,
        **options: Unpack[PauseOptions[Input, DataT]],
    ) -> Self:
        """Like `.wait`, for whichever of several signals comes first."""
        return self._pause(WAIT, name, lambda: wait_any(signals, timeout, on_timeout), options)

    def sleep(
        self, name: str, duration: Duration | Callable[[Context[Input, DataT]], Duration],
        **options: Unpack[PauseOptions[Input, DataT]],
    ) -> Self:  # fmt: skip
        """Add a node that lets time pass: seconds, timedelta, or a function of the context that tells them.

        Nothing runs meanwhile. Options: `when`, `aliases`.
        """
        if callable(duration):
            return self._asked(name, duration, sleep, options)
        return self._pause(SLEEP, name, lambda: sleep(duration), options)

    def sleep_until(
        self, name: str, time: datetime | Callable[[Context[Input, DataT]], datetime],
        **options: Unpack[PauseOptions[Input, DataT]],
    ) -> Self:  # fmt: skip
        """Add a node that lasts until `time`, which carries a time zone, or a function of the context that tells it."""
        if callable(time):
            return self._asked(name, time, sleep_until, options)
        return self._pause(SLEEP, name, lambda: sleep_until(time), options)

    def child(
        self, name: str, workflow: Any, input: object = None, wait: bool = True,  # noqa: FBT001, FBT002 -- reads well
        on_failure: str = "fail", on_cancel: str = "cancel", **options: Unpack[StepOptions[Input, DataT]],
    ) -> Self:  # fmt: skip
        """Start an instance of another workflow, and wait for its end; the output is the child's data.

        `workflow` is a workflow, or the name of one that the engine knows. `input` is a value, or a function of the
        context that returns it. The child's id is made of the parent's and the step's, so no crash starts two. With
        `wait=False` the step is completed once the child is started; the output is its id. `on_failure`: a child that
        fails or is cancelled fails the step (`ChildFailed`), or with "continue" completes it with a dict of `id`,
        `status` and `error`. `on_cancel`: while the parent is undone, a child that has not ended is cancelled and
        undone first, or with "abandon" left alone. A child that has completed is undone by `compensate` alone. A retry
        of the step goes on with the child where that has failed. Options as for `step`; `retries`, `timeout` and
        `retry` hold for the function.
        """
        where = self._where(CHILD, name)
        call = checked_child(where, workflow, wait, on_failure, on_cancel)
        self._append(name, as_function(input), kind=CHILD, options=options, more={"child": call})
        return self

    def _pause(self, kind: str, name: str, make: Callable[[], Directive], options: Mapping[str, Any]) -> Self:
        """A node that always returns the same directive."""
        try:
            directive = make()
        except DefinitionError as error:
            message = f"{self._where(kind, name)}: {error}"
            raise DefinitionError(message) from None
        self._append(name, lambda _ctx: directive, kind=kind, options=options)
        return self

    def _asked(
        self, name: str, told: Callable[[Context], Any], made: Callable[[Any], Directive], options: Mapping[str, Any]
    ) -> Self:
        """A node that asks the user's function, `def` or `async def`, how long to sleep."""
        checked_handler(self._where(SLEEP, name), "the time", told)

        def handler(ctx: Context) -> object:
            answer = told(ctx)
            return later(answer) if hasattr(answer, "__await__") else made(answer)

        async def later(answer: Any) -> object:
            return made(await answer)

        self._append(name, handler, kind=SLEEP, options=options)
        return self

    def if_(
        self, name: str, condition: Handler[Input, DataT], then: Inside[Input, DataT],
        else_: Inside[Input, DataT] | None = None, **options: Any,
    ) -> Self:  # fmt: skip
        """Run `then` if the condition holds, else `else_`, if there is one. Its output is that of the last step run.

        The condition, `def` or `async def`, is asked once and its answer is recorded: a resume does not ask again. A
        body is a `flow()`, or a handler for a single step. Options: `retries`, `timeout` and `retry` of the
        condition; `aliases`.
        """
        bodies = {THEN: then} if else_ is None else {THEN: then, ELSE: else_}
        return self._decision(IF, name, condition, "the condition", bodies, options)

    def switch(
        self, name: str, selector: Handler[Input, DataT], cases: Mapping[str, Inside[Input, DataT]],
        default: Inside[Input, DataT] | None = None, **options: Any,
    ) -> Self:  # fmt: skip
        """Run the case whose name the selector returns, or `default`. Without either the step fails, and says so.

        Otherwise like `.if_`.
        """
        where = self._where(SWITCH, name)
        if not hasattr(cases, "items") or not cases:
            message = f"{where}: cases must be a dict of at least one name and its flow() or handler; got {cases!r}"
            raise DefinitionError(message)
        for case in cases:
            check_step_name(f"{where}, as a case", case)
        if DEFAULT in cases:
            message = f"{where}: a case cannot be named {DEFAULT!r}: give it as default="
            raise DefinitionError(message)
        bodies = dict(cases) if default is None else {**cases, DEFAULT: default}
        return self._decision(SWITCH, name, selector, "the selector", bodies, options)

    def loop(
        self, name: str, times: int | Callable[[Context[Input, DataT]], int], body: Inside[Input, DataT],
        **options: Any,
    ) -> Self:  # fmt: skip
        """Run the body `times` times: a whole number, or a function of the context that tells it, asked once.

        Each step of each iteration is a checkpoint of its own (`poll[17].fetch`); `ctx.iteration` tells the number,
        from 0. The output is that of the last step of the last iteration. Options as for `.if_`.
        """
        if callable(times):
            return self._decision(LOOP, name, times, "times", {BODY: body}, options)
        if type(times) is not int or times < 0:
            message = f"{self._where(LOOP, name)}: times must be a whole number from 0 on, or a function; got {times!r}"
            raise DefinitionError(message)
        return self._decision(LOOP, name, lambda _ctx: times, "times", {BODY: body}, options)

    def while_(
        self, name: str, condition: Handler[Input, DataT], body: Inside[Input, DataT], max_iterations: int = 1000,
        **options: Any,
    ) -> Self:  # fmt: skip
        """Run the body as long as the condition, asked before each iteration, holds.

        If it holds still after `max_iterations`, the step fails with `LoopLimit`. In the condition `ctx.iteration` is
        the number of the iteration to come, and `ctx.results["fetch"]` the output of the one before. Otherwise as
        for `.loop` and `.if_`.
        """
        if type(max_iterations) is not int or max_iterations < 1:
            where = self._where(WHILE, name)
            message = f"{where}: max_iterations must be a whole number from 1 on; got {max_iterations!r}"
            raise DefinitionError(message)
        more = {"max_iterations": max_iterations}
        return self._decision(WHILE, name, condition, "the condition", {BODY: body}, options, more)

    def parallel(
        self, name: str, *branches: Inside[Input, DataT], max_concurrency: int | None = None,
        on_error: str = "fail_fast", merge: Merge | None = None, **options: Any,
    ) -> Self:  # fmt: skip
        """Run several branches at the same time: each a handler, whose name it takes, or a `flow("name")`.

        Each step of each branch is a checkpoint of its own (`fan.pay.charge`). A branch sees `ctx.data` as it was when
        the parallel began, and what it has written itself; what all have written comes together when all have ended.
        A key that several have written fails the step (`WriteConflict`), unless `merge` says what to make of it: a
        function of the list of values for each such key, or one function of key and values for all. The output is a
        dict of the branches' outputs. `max_concurrency` (None: all) says how many branches may be in progress at a
        time, those that wait included. `on_error`: with "fail_fast" nothing new begins once a branch has failed, with
        "wait_all" the others go on to their end first; then all are undone. Options as for `.if_`; they hold for
        `merge`.
        """
        where = self._where(PARALLEL, name)
        named: dict[str, Inside] = {}
        for place, branch in enumerate(branches):
            label = _branch_name(branch, place)
            if label in named:
                message = f"{where}: two branches are called {label!r}; name them with flow({label + '-2'!r})..."
                raise DefinitionError(message)
            named[check_step_name(f"{where}, as a branch", label)] = branch
        if not named:
            message = f"{where} has no branches: pass handlers, or flow('name').step(...), one each"
            raise DefinitionError(message)
        more = checked_concurrency(where, max_concurrency, on_error, merge)
        return self._decision(PARALLEL, name, lambda _ctx: True, "the branches", named, options, more)

    def map(
        self, name: str, items: Handler[Input, DataT] | list[Any] | tuple[Any, ...] | str,
        body: Inside[Input, DataT], max_concurrency: int | None = 10, on_error: str = "fail_fast",
        merge: Merge | None = None, **options: Any,
    ) -> Self:  # fmt: skip
        """Run the body for each item, several at the same time; the output is the list of their outputs, in order.

        `items` is a list, a function of the context that returns one, or where it is: `"input"`, `"input.orders"`,
        `"data.orders"`. It is asked once, and recorded. In the body `ctx.item` is the item and `ctx.iteration` its
        number; each step of each item is a checkpoint of its own (`ship[3].label`). `max_concurrency` (None: no limit)
        says how many items may be in progress at a time, those that wait included; 1 takes one after the other.
        Otherwise as for `.parallel`; `retries`, `timeout` and `retry` hold for the function and for `merge`.
        """
        where = self._where(MAP, name)
        more = checked_concurrency(where, max_concurrency, on_error, merge)
        return self._decision(MAP, name, checked_items(where, items), "the items", {BODY: body}, options, more)

    def _decision(
        self,
        kind: str,
        name: str,
        handler: Handler,
        role: str,
        bodies: Mapping[str, Inside],
        options: dict[str, Any],
        more: dict[str, Any] | None = None,
    ) -> Self:
        where = self._where(kind, name)
        checked_handler(where, role, handler)
        check_known(where, options, kind)  # before a body is taken into use
        index = len(self._steps)
        placed: dict[str, Body] = {}
        for key, given in bodies.items():
            inside = _inside(where, key, given)
            prefix = f"{name}." if kind in NUMBERED else f"{name}.{key}."
            placed[key] = Body(
                tuple(
                    node.filled(self._retries, self._timeout, self._retry).under(prefix, index)
                    for node in inside.used()
                )
            )
        self._append(name, handler, kind=kind, options=options, bodies=placed, more=more)
        return self

    def checked_steps(self) -> list[StepDefinition]:
        """What was collected, checked as a whole; `DefinitionError` says what is missing or contradicts itself."""
        if self._undecorated:
            message = (
                f"{self._label}: step {self._undecorated[0]!r} has no handler: pass one, "
                f".step(name, handler), or put the call as a decorator over a function"
            )
            raise DefinitionError(message)
        if not self._steps:
            message = f"{self._label} has no steps: add at least one with .step(name, handler)"
            raise DefinitionError(message)
        self._check_aliases()
        return self._steps

    def _where(self, kind: str, name: object) -> str:
        return f"{self._label}, {kind} {name!r}"

    def _check_aliases(self) -> None:
        owners: dict[str, str] = {}
        for step in self._steps:
            for alias in step.aliases:
                other = alias if alias in self._names else owners.setdefault(alias, step.name)
                if other != step.name or alias == step.name:
                    message = (
                        f"{self._label}, step {step.name!r}: the alias {alias!r} is also the step {other!r}; "
                        f"an alias is a name that no step has any more, and belongs to one step"
                    )
                    raise DefinitionError(message)

    def _add(self, name: str | Handler, handler: Handler | None, *, kind: str, options: dict[str, Any]) -> Any:
        if callable(name):
            self._append(str(getattr(name, "__name__", "")), name, kind=kind, options=options)
            return name
        if handler is not None:
            self._append(name, handler, kind=kind, options=options)
            return self

        self._open(f"{kind} {name!r}")
        self._undecorated.append(name)

        def decorate(function: Handler) -> Handler:
            self._append(name, function, kind=kind, options=options)
            self._undecorated.remove(name)
            return function

        return decorate

    def _append(
        self,
        name: str,
        handler: Handler,
        *,
        kind: str,
        options: Mapping[str, Any],
        bodies: dict[str, Body] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        """`more` are fields of the `StepDefinition` that are no options."""
        self._open(f"{kind} {name!r}")
        check_step_name(self._label, name)
        where = self._where(kind, name)
        if name in self._names:
            message = f"{where}: a step of that name exists already; names are unique in {self._unit}, so rename one"
            raise DefinitionError(message)
        checked_handler(where, "the handler", handler)
        checked = checked_options(where, options, kind)
        if checked["retries"] is None:
            checked["retries"] = self._retries
        if checked["timeout"] is None:
            checked["timeout"] = self._timeout
        checked["retry"] = checked["retry"] or self._retry
        self._names.add(name)
        step = StepDefinition(
            name, handler, kind=kind, index=len(self._steps), bodies=bodies, **(more or {}), **checked
        )
        self._steps.append(step)

    def _open(self, what: str) -> None:
        if self._frozen:
            message = f"{self._label} is frozen since its first use; declare {what} before that"
            raise DefinitionError(message)


class FlowBuilder(NodeCollector[Input, DataT]):
    """Collects what a branch or a loop runs; `flow()` makes one."""

    _unit = "a flow()"

    def __init__(self, name: str | None = None) -> None:
        super().__init__("a flow()" if name is None else f"flow({name!r})")
        self.name = name
        """What the branch of a parallel is called."""

    def used(self) -> list[StepDefinition]:
        """Its steps, checked as a whole; from now on it takes no more."""
        steps = self.checked_steps()
        self._frozen = True
        return steps


def flow(name: str | None = None) -> FlowBuilder:
    """What a branch, loop or map runs: `flow().step("fetch", fetch).sleep("pause", 60)`, with the builder's words.

    It may be used in several places; each has its own checkpoints. `name` is for the branches of `.parallel`.
    """
    if name is not None:
        check_step_name("flow(...)", name)
    return FlowBuilder(name)


def _branch_name(branch: object, place: int) -> str:
    """The name of a branch of a parallel: that of its flow or function, else its place."""
    name = branch.name if isinstance(branch, FlowBuilder) else getattr(branch, "__name__", None)
    return str(place) if name is None or name == "<lambda>" else str(name)


def _inside(where: str, key: str, given: object) -> FlowBuilder:
    """A body as a flow: a handler becomes its only step."""
    if isinstance(given, FlowBuilder):
        return given
    role = "the body" if key == BODY else repr(key)
    if not callable(given) or isinstance(given, NodeCollector):
        message = f"{where}: {role} must be a flow() or a function that takes the context; got {given!r}"
        raise DefinitionError(message)
    name = getattr(given, "__name__", "<lambda>")
    one = flow()
    one.step("run" if name == "<lambda>" else name, checked_handler(where, role, given))
    return one
