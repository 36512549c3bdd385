"""What a line gets told: MQTT, webhooks, registers, all from an outbox in the database."""
