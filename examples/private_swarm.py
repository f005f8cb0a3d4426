"""Step 6: a swarm of your own: two servers that hold half of the blocks each, and a client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from examples.arguments import read_arguments
from swarm_client import AutoDistributedModelForCausalLM


def main() -> None:
    """Start the servers, generate, and stop them."""
    arguments = read_arguments(__doc__, needs_swarm=False)
    num_blocks = AutoConfig.from_pretrained(arguments.model).num_hidden_layers
    middle = num_blocks // 2
    # The first begins the swarm, the second joins it. On another machine that one would be told
    # an address that both can reach: see --host-maddrs in the guide.
    with running_server(arguments.model, f"0:{middle}", "--new-swarm") as first:
        peers = first["maddrs"]
        joining = ("--initial-peers", *peers[:1])
        with running_server(arguments.model, f"{middle}:{num_blocks}", *joining):
            tokenizer = AutoTokenizer.from_pretrained(arguments.model)
            model = AutoDistributedModelForCausalLM.from_pretrained(
                arguments.model, initial_peers=peers
            )
            inputs = tokenizer("Once upon a time", return_tensors="pt")["input_ids"]
            print(tokenizer.decode(model.generate(inputs, max_new_tokens=24)[0]))
            model.close()


@contextmanager
def running_server(model: str, blocks: str, *options: str) -> Iterator[dict[str, Any]]:
    """Run `swarmgate serve` inside the `with`; yield what it says about itself when it serves."""
    command = [sys.executable, "-m", "swarmgate", "serve", model, "--blocks", blocks, *options]
    print(">", " ".join(["swarmgate", *command[3:]]))
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None, "created with a pipe"
        line = server.stdout.readline()
        if not line:
            raise SystemExit(f"the server of blocks {blocks} has ended; start it alone to see why")
        ready: dict[str, Any] = json.loads(line)
        print(f"peer {ready['peer_id']} holds blocks {ready['blocks']}")
        yield ready
    finally:
        server.terminate()  # it tells the swarm that it leaves
        server.communicate()


if __name__ == "__main__":
    main()
