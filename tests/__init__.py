"""Tests: unit, integration, e2e and interop tiers; `harness` starts swarms for them."""
