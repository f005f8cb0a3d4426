import pytest
from pydantic import ValidationError

from app.inference.settings import EngineSettings


def test_a_dht_prefix_names_one_model() -> None:
    """Two models under one prefix would be one model."""
    with pytest.raises(ValidationError, match="only when one model is served"):
        EngineSettings(models=("a/b", "c/d"), dht_prefix="x")


def test_there_is_a_model_to_serve() -> None:
    """An engine without models is a mistake."""
    with pytest.raises(ValidationError):
        EngineSettings(models=())
