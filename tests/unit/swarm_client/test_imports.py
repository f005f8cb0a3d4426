"""What importing the library costs."""

import subprocess
import sys

import swarm_client
from swarm_client.models import model_classes

PROGRAM = """
import sys
import swarm_client
import swarm_client.connection, swarm_client.models, swarm_client.generation.sampler
swarm_client.SwarmConnection, swarm_client.RemoteSequential, swarm_client.InferenceSession
assert "transformers" not in sys.modules
"""


def test_the_gateways_imports_do_not_load_transformers() -> None:
    """It takes seconds; only the model classes need it."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=True)


def test_every_public_name_exists() -> None:
    """They are loaded when first used."""
    for name in swarm_client.__all__:
        assert getattr(swarm_client, name).__name__ == name
    assert not hasattr(swarm_client, "nothing")


def test_the_classes_of_every_family_are_public() -> None:
    """Code written for Petals imports them from here."""
    for name in model_classes.__all__:
        assert getattr(swarm_client, name) is getattr(model_classes, name)
    assert not hasattr(swarm_client, "DistributedNothingForCausalLM")
