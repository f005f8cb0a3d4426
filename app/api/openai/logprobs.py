"""Log-probabilities of tokens in OpenAI's two forms. Pure."""

from collections.abc import Sequence

from app.api.answers.writer import TokenBytes
from app.inference.requests import TokenLogprob

Json = dict[str, object]


def chat_logprobs(logprobs: Sequence[TokenLogprob], token_bytes: TokenBytes) -> Json | None:
    """Return `logprobs` of a chat's choice; None when there are none.

    `bytes` are exact; `token` has replacement characters where they are not whole characters.
    """
    if not logprobs:
        return None

    def describe(token_id: int, logprob: float) -> Json:
        data = token_bytes(token_id)
        return {
            "token": data.decode("utf-8", "replace"),
            "logprob": logprob,
            "bytes": list(data),
        }

    content = [
        {
            **describe(each.token_id, each.logprob),
            "top_logprobs": [describe(token_id, logprob) for token_id, logprob in each.top],
        }
        for each in logprobs
    ]
    return {"content": content, "refusal": None}


class TextLogprobs:
    """Writes `logprobs` of a completion's choice, piece by piece: offsets go on."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        self._token_bytes = token_bytes
        self._offset = 0

    def write(self, logprobs: Sequence[TokenLogprob]) -> Json | None:
        """Return those of the next tokens; None when there are none."""
        if not logprobs:
            return None
        tokens, offsets = [], []
        for each in logprobs:
            tokens.append(self._name(each.token_id))
            offsets.append(self._offset)
            self._offset += len(tokens[-1])
        return {
            "tokens": tokens,
            "token_logprobs": [each.logprob for each in logprobs],
            "top_logprobs": [
                {self._name(token_id): logprob for token_id, logprob in each.top}
                for each in logprobs
            ],
            "text_offset": offsets,
        }

    def _name(self, token_id: int) -> str:
        """Return the token's text; as OpenAI does, `bytes:…` where it is not whole characters."""
        data = self._token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
