//! Subversion repositories as sources.
