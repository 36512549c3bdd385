"""The tables, as the newest migration leaves them (`migrations/versions` makes them)."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "audit",
    "choices",
    "inspections",
    "jobs",
    "outbox",
    "profiles",
    "regions",
    "reviews",
    "sessions",
    "sources",
    "statistics",
    "tables",
    "tokens",
]

tables = MetaData()
# SQLite counts up only what it calls INTEGER
Number = BigInteger().with_variant(Integer, "sqlite")

inspections = Table(
    "inspections",
    tables,
    Column(
        "number", Number, primary_key=True, autoincrement=True
    ),  # in the order of acceptance, whatever the clock says
    Column("id", String(32), nullable=False, unique=True),
    Column("state", String(10), nullable=False),  # waiting, done, failed, cancelled
    Column("created_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("source", String(100), nullable=False),
    Column("name", Text, nullable=False),  # of the file, as it was given
    Column("job", String(32)),
    Column("request_key", String(120), unique=True),  # a request that is sent again finds its first result
    Column("profile", String(100)),
    Column("profile_version", Integer),
    Column("settings", Text, nullable=False),  # JSON: what was asked for besides the profile
    Column("image", String(200)),  # file below the data folder; None once it is thinned out
    Column("maps", String(200)),  # likewise
    Column("bytes", BigInteger, nullable=False, default=0),  # of both files
    Column("attempts", Integer, nullable=False, default=0),
    Column("verdict", String(10)),
    Column("image_score", Float),
    Column("map_peak", Float),
    Column("top_type", String(200)),
    Column("region_count", Integer),
    Column("review_label", String(20)),  # of the newest review
    Column("record", Text),  # JSON, as in results.jsonl
    Column("error", Text),
    Index("inspections_state", "state", "number"),
    Index("inspections_created", "created_ms", "number"),
    Index("inspections_verdict", "verdict", "number"),
    Index("inspections_type", "top_type", "verdict", "number"),
    Index("inspections_source", "source", "verdict", "number"),
    Index("inspections_source_type", "source", "top_type", "number"),
    Index("inspections_review", "review_label", "verdict", "number"),
    Index("inspections_job", "job", "number"),
    Index("inspections_score", "created_ms", "image_score", "verdict", "source", "review_label"),
    sqlite_autoincrement=True,
)

regions = Table(
    "regions",
    tables,
    Column("inspection", Number, ForeignKey("inspections.number", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("type", String(200)),
    Column("peak_score", Float, nullable=False),
    Column("mean_score", Float, nullable=False),
    Column("area_px", Integer, nullable=False),
    Column("x0", Integer, nullable=False),
    Column("y0", Integer, nullable=False),
    Column("x1", Integer, nullable=False),
    Column("y1", Integer, nullable=False),
    Index("regions_type", "type", "inspection"),
)

reviews = Table(
    "reviews",
    tables,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("inspection", Number, ForeignKey("inspections.number", ondelete="CASCADE"), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("label", String(20), nullable=False),  # accept, reject, other_type, false_alarm
    Column("type", String(200)),
    Column("note", Text, nullable=False, default=""),
    Column("reviewer", String(100), nullable=False),
    Column("token", String(100), nullable=False),  # name of the token that it came by
    Index("reviews_inspection", "inspection", "number"),
    Index("reviews_created", "created_ms"),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    tables,
    Column("id", String(32), primary_key=True),
    Column("state", String(10), nullable=False),  # waiting, running, done, failed, cancelled
    Column("created_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("asked", Text, nullable=False),  # JSON: what was asked for
    Column("total", Integer),  # images; None until they are listed
    Column("error", Text),
    Column("lease_owner", String(64)),
    Column("lease_until_ms", BigInteger),
    Index("jobs_state", "state", "created_ms"),
)

profiles = Table(
    "profiles",
    tables,
    Column("name", String(100), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("made_by", String(100), nullable=False),
    Column("why", Text, nullable=False, default=""),
    Column("config", Text, nullable=False),  # JSON: tables of a configuration
    Column("calibration", Text),  # JSON: a calibration
    Column("file", String(200)),  # a .blemish file below the data folder
    Column("setup", Text),  # JSON: what decides its scores, once an image was inspected
)

# Which version of a profile is in force, and which profile a source has ("" for requests that name none): the newest row counts.
choices = Table(
    "choices",
    tables,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("kind", String(10), nullable=False),  # version, source
    Column("subject", String(100), nullable=False),  # name of the profile, or of the source
    Column("profile", String(100), nullable=False),
    Column("version", Integer),  # for the kind "version"
    Column("created_ms", BigInteger, nullable=False),
    Column("made_by", String(100), nullable=False),
    Index("choices_subject", "kind", "subject", "number"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    tables,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the secret
    Column("scopes", String(100), nullable=False),  # words: read, inspect, review, admin
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
)

sessions = Table(
    "sessions",
    tables,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the cookie
    Column("token", String(16), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

sources = Table(
    "sources",
    tables,
    Column("name", String(100), primary_key=True),
    Column("first_seen_ms", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    tables,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("target", String(100), nullable=False),  # mqtt, or webhook:NAME
    Column("topic", Text, nullable=False),
    Column("payload", Text, nullable=False),  # JSON
    Column("created_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("sent_ms", BigInteger),
    Index("outbox_target", "target", "sent_ms", "number"),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    tables,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("who", String(100), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False, default="{}"),  # JSON
    sqlite_autoincrement=True,
)

# How many images of an hour had what: the charts of the page come from here, however many inspections there are.
statistics = Table(
    "statistics",
    tables,
    Column("hour", Integer, nullable=False),  # hours since 1970, UTC
    Column("source", String(100), nullable=False),
    Column("verdict", String(10), nullable=False),
    Column("top_type", String(200), nullable=False),  # "" for none
    Column("score_bin", Integer, nullable=False),  # hundredths of the image score, 0..99
    Column("images", Integer, nullable=False),
    UniqueConstraint("hour", "source", "verdict", "top_type", "score_bin", name="statistics_key"),
)
