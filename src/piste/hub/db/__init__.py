"""The database: one set of SQL texts for SQLite and PostgreSQL behind one interface."""
