"""What may be wrong with a database file, and what can be saved of it.

From the ground up: the file as pages, without SQLite (`log`, `pages`); cells, records and trees in them (`cells`,
`trees`); how the tables ought to be (`layout`); then `doctor`, which looks and changes nothing, and `recover`, which
copies what is whole.
"""
