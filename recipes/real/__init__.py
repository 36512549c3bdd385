"""Real images with permissive licences: laid out, drawn into, and judged by (docs/model-judge.md)."""
