"""What a session gets does not depend on who else is there."""

import asyncio
from pathlib import Path

from tests.harness.mixed_sessions import plan_session, run_plan
from tests.integration.adapters.adapted_swarm import adapted_swarm, save_two_adapters
from tests.integration.app.inference.swarm import until

NUM_SESSIONS = 32


async def test_mixed_sessions_at_once_decode_what_each_decodes_alone(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """Prompts and pauses of any length, adapters, going back, leaving early: the same tokens."""
    async with adapted_swarm(tiny_llama, save_two_adapters(tmp_path, tiny_llama)) as swarm:
        vocab_size = swarm.remotes[None].facts.vocab_size
        plans = [
            plan_session(seed, (None, "some", "all"), vocab_size) for seed in range(NUM_SESSIONS)
        ]
        alone = [await run_plan(plan, swarm.remotes[plan.adapter], swarm.parts) for plan in plans]

        together = await asyncio.gather(
            *(run_plan(plan, swarm.remotes[plan.adapter], swarm.parts) for plan in plans)
        )

        assert together == alone
        await until(lambda: not any(server.num_sessions for server in swarm.servers))
