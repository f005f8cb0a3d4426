"""Trials of grammars in processes that may be lost; see `trial_process`."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from app.inference.requests import OutputConstraint
from app.structured import trial_process
from app.structured.errors import (
    CompilersBusyError,
    GrammarsUnavailableError,
    GrammarTooLargeError,
    GrammarTooSlowError,
    InvalidGrammarError,
)
from app.structured.limits import GrammarLimits

log = structlog.get_logger(__name__)

_NUM_PROCESSES: Final = 2
_START_TIMEOUT_S: Final = 30.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_MAX_REASON_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class TokenizerDefinition:
    """What it takes to build the model's tokenizer again.

    Attributes:
        write: returns its tokenizer.json; megabytes, so it is called when needed, in a thread.
        vocab_size: of the model's logits, or of the tokenizer if that is larger.
        eos_token_ids: tokens that may come where the grammar allows the end.
    """

    write: Callable[[], str]
    vocab_size: int
    eos_token_ids: tuple[int, ...]


class GrammarTrials:
    """Tries grammars, at most two at once and one of each tenant.

    So a tenant whose grammars take all the time they may does not keep others from compiling
    theirs. The processes start with the first grammar; lost ones are replaced.
    """

    def __init__(self, tokenizer: TokenizerDefinition, limits: GrammarLimits) -> None:
        self._tokenizer = tokenizer
        self._limits = limits
        self._idle: list[_TrialProcess] = []
        self._slots = asyncio.Semaphore(_NUM_PROCESSES)
        self._turns: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        self._is_closed = False

    async def try_out(self, constraint: OutputConstraint, tenant: str) -> str:
        """Return the constraint in the library's form, proven to compile within the bounds.

        Raises:
            InvalidGrammarError, GrammarTooLargeError, GrammarsUnavailableError,
            CompilersBusyError: see the classes.
        """
        if self._waiting.total() >= self._limits.max_waiting:
            raise CompilersBusyError(self._limits.max_waiting)
        self._waiting[tenant] += 1
        try:
            async with self._turns.setdefault(tenant, asyncio.Lock()), self._slots:
                return await self._try_in_turn(constraint)
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant], self._turns[tenant]

    async def close(self) -> None:
        """End the processes. Idempotent."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop().end()

    async def _try_in_turn(self, constraint: OutputConstraint) -> str:
        process = self._idle.pop() if self._idle else await _TrialProcess.start(self._tokenizer)
        is_fit = False
        try:
            answer = await process.ask(constraint, self._limits)
            is_fit = not self._is_closed
        finally:
            if is_fit:
                self._idle.append(process)
            else:
                await process.end()
        if "error" in answer:
            raise InvalidGrammarError(_sentence(constraint.kind, answer["error"]))
        return answer["grammar"]


class _TrialProcess:
    """One process. After an error it is good for nothing but `end`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, tokenizer: TokenizerDefinition) -> "_TrialProcess":
        """Start one, and wait until it has the tokenizer.

        Raises:
            GrammarsUnavailableError: it does not take this tokenizer.
        """
        definition = (await asyncio.to_thread(tokenizer.write)).encode()
        try:
            process = cls(await _start_process())
        except OSError as error:
            log.warning("grammar_trial_not_started", reason=error.strerror)
            raise GrammarsUnavailableError from error
        head = {
            "num_bytes": len(definition),
            "vocab_size": tokenizer.vocab_size,
            "eos_token_ids": tokenizer.eos_token_ids,
        }
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await process._exchange(json.dumps(head).encode() + b"\n" + definition)
        except (OSError, TimeoutError, ValueError) as error:
            await process.end()
            raise GrammarsUnavailableError from error
        except BaseException:
            await process.end()
            raise
        return process

    async def ask(self, constraint: OutputConstraint, limits: GrammarLimits) -> dict[str, str]:
        """Return what it makes of a constraint.

        Raises:
            GrammarTooLargeError: it did not answer in time, or has crashed over it.
        """
        request = {
            "kind": constraint.kind,
            "text": constraint.text,
            "max_bytes": limits.compile_bytes,
        }
        try:
            async with asyncio.timeout(limits.compile_s):
                answer: dict[str, str] = await self._exchange(json.dumps(request).encode() + b"\n")
        except TimeoutError as error:
            raise GrammarTooSlowError(
                f"the {constraint.kind} takes longer than {limits.compile_s:g} s to compile"
            ) from error
        except (OSError, ValueError) as error:
            log.warning("grammar_trial_lost", kind=constraint.kind)
            raise GrammarTooLargeError(
                f"the {constraint.kind} is too complex to be compiled"
            ) from error
        return answer

    async def end(self) -> None:
        """End it. Idempotent."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended by itself
                self._process.kill()
        await self._process.communicate()  # closes the pipes

    async def _exchange(self, request: bytes) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request)
        await self._process.stdin.drain()
        return json.loads(await self._process.stdout.readline())


async def _start_process() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(trial_process.__file__)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_MAX_ANSWER_BYTES,
        env={},  # our own holds secrets
    )


def _sentence(kind: str, error: str) -> str:
    """Return the library's findings as one short line."""
    reason = " ".join(error.replace("<non-verbose/>", "").split())
    if len(reason) > _MAX_REASON_CHARACTERS:
        reason = reason[:_MAX_REASON_CHARACTERS] + "…"
    return f"the {kind} cannot be used: {reason}"
