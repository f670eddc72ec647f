"""The embedded database: one SQLite file and its one writer thread, shared by the embedded broker and store."""
