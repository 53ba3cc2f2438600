//! Single URLs as sources.
