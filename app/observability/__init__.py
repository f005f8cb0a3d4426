"""What the gateway tells its operator: metrics and logs. Never prompts, outputs or keys."""
