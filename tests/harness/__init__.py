"""What tests share: tiny models, local swarms, programs under test."""
