"""The service's database: tables, migrations, and opening one. Times are milliseconds since 1970 in UTC."""
