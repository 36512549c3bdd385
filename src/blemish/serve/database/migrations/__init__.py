"""Alembic's migrations. One that has been released is never changed; a new one comes behind it."""
