"""Keys as JSON for people and programs: the same for the command line and the admin API."""

from app.keys.records import KeyRecord
from app.keys.registry import NewKey


def key_facts(record: KeyRecord) -> dict[str, object]:
    """Return what may be told of a key; times are UTC seconds."""
    return {
        "id": record.id,
        "name": record.name,
        "scopes": record.scopes.model_dump(mode="json"),
        "limits": record.limits.model_dump(mode="json"),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "num_secrets": len(record.secrets),
    }


def new_key_facts(new: NewKey) -> dict[str, object]:
    """Return the facts of a key that was made just now, its text included."""
    return {**key_facts(new.record), "key": new.text}
