//! Runnable programs; each is run by CI.
