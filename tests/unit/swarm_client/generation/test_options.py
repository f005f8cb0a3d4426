"""Which options of `generate` can be honoured."""

import pytest
from transformers import GenerationConfig

from swarm_client.errors import InvalidParametersError
from swarm_client.generation.options import check_options, read_option


def test_an_option_goes_before_the_config_given_and_that_before_the_default() -> None:
    """As in transformers."""
    given, default = GenerationConfig(num_beams=3), GenerationConfig(num_beams=2)

    assert read_option("num_beams", {"num_beams": 4, "generation_config": given}, default) == 4
    assert read_option("num_beams", {"generation_config": given}, default) == 3
    assert read_option("num_beams", {}, default) == 2
    assert read_option("no_such_option", {}, default) is None


def test_what_is_refused_is_refused_wherever_it_stands() -> None:
    """The message says what is possible."""
    config = GenerationConfig(guidance_scale=1.5)
    for options, defaults in [
        ({"guidance_scale": 1.5}, GenerationConfig()),
        ({"generation_config": config}, GenerationConfig()),
        ({}, config),
    ]:
        with pytest.raises(InvalidParametersError, match="guidance_scale must be 1"):
            check_options(options, defaults)


def test_values_that_change_nothing_pass() -> None:
    """Many configs spell defaults out."""
    check_options({"guidance_scale": 1.0, "output_attentions": False}, GenerationConfig())
