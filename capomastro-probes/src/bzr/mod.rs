//! Bazaar (Breezy) branches as sources.
