//! Revision probes for Capomastro: git and scripts.
