//! Mercurial repositories as sources.
