//! The embedded state store of Capomastro, on one SQLite file.
