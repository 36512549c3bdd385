"""The tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "inspections",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("job", sa.String(32)),
        sa.Column("request_key", sa.String(120), unique=True),
        sa.Column("profile", sa.String(100)),
        sa.Column("profile_version", sa.Integer),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("image", sa.String(200)),
        sa.Column("maps", sa.String(200)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("verdict", sa.String(10)),
        sa.Column("image_score", sa.Float),
        sa.Column("map_peak", sa.Float),
        sa.Column("top_type", sa.String(200)),
        sa.Column("region_count", sa.Integer),
        sa.Column("review_label", sa.String(20)),
        sa.Column("record", sa.Text),
        sa.Column("error", sa.Text),
        sqlite_autoincrement=True,
    )
    for name, columns in {
        "state": ["state", "number"],
        "created": ["created_ms", "number"],
        "verdict": ["verdict", "number"],
        "type": ["top_type", "verdict", "number"],
        "source": ["source", "verdict", "number"],
        "source_type": ["source", "top_type", "number"],
        "review": ["review_label", "verdict", "number"],
        "job": ["job", "number"],
        "score": ["created_ms", "image_score", "verdict", "source", "review_label"],
    }.items():
        op.create_index(f"inspections_{name}", "inspections", columns)
    op.create_table(
        "regions",
        sa.Column("inspection", Number, sa.ForeignKey("inspections.number", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("type", sa.String(200)),
        sa.Column("peak_score", sa.Float, nullable=False),
        sa.Column("mean_score", sa.Float, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("area_px", "x0", "y0", "x1", "y1")),
    )
    op.create_index("regions_type", "regions", ["type", "inspection"])
    op.create_table(
        "reviews",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("inspection", Number, sa.ForeignKey("inspections.number", ondelete="CASCADE"), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("label", sa.String(20), nullable=False),
        sa.Column("type", sa.String(200)),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("reviewer", sa.String(100), nullable=False),
        sa.Column("token", sa.String(100), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("reviews_inspection", "reviews", ["inspection", "number"])
    op.create_index("reviews_created", "reviews", ["created_ms"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("started_ms", sa.BigInteger),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("total", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until_ms", sa.BigInteger),
    )
    op.create_index("jobs_state", "jobs", ["state", "created_ms"])
    op.create_table(
        "profiles",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("made_by", sa.String(100), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("calibration", sa.Text),
        sa.Column("file", sa.String(200)),
        sa.Column("setup", sa.Text),
    )
    op.create_table(
        "choices",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("profile", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("made_by", sa.String(100), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("choices_subject", "choices", ["kind", "subject", "number"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("revoked_ms", sa.BigInteger),
    )
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("token", sa.String(16), nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sources",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("target", sa.String(100), nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_ms", sa.BigInteger, nullable=False),
        sa.Column("sent_ms", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("outbox_target", "outbox", ["target", "sent_ms", "number"])
    op.create_table(
        "audit",
        sa.Column("number", Number, primary_key=True, autoincrement=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "statistics",
        sa.Column("hour", sa.Integer, nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("verdict", sa.String(10), nullable=False),
        sa.Column("top_type", sa.String(200), nullable=False),
        sa.Column("score_bin", sa.Integer, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.UniqueConstraint("hour", "source", "verdict", "top_type", "score_bin", name="statistics_key"),
    )
