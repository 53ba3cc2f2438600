//! Commands on this machine, and builds as local processes, for Capomastro.
