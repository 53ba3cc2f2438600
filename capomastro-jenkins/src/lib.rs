//! Launches and follows builds on Jenkins, for Capomastro.
