"""Who may generate now: limits of callers, a slot of the model, and the account of each request.

Entry point: `Admission`. What it decides is pure and elsewhere here: `FairQueue` who is next,
`WaitEstimate` when, `caller_limits` what a caller may use. Knows no surfaces and no tokens.
"""

from app.admission.caller_limits import limit_headers
from app.admission.errors import CallerLeftError
from app.admission.gate import Admission
from app.admission.open_places import Place

__all__ = ["Admission", "CallerLeftError", "Place", "limit_headers"]
