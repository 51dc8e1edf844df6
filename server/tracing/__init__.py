"""The times of prompts, for people who look: traces for Perfetto, spans of OpenTelemetry."""
